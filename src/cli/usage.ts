import type { Command, CommanderError } from 'commander';
import { PgarkError } from '../common/errors.ts';
import { whatThereIs } from './help.ts';

/** commander's suggestion, which follows its message on a line of its own. */
const SUGGESTION = /\n\(Did you mean (.*)\?\)$/s;

/**
 * The parser's refusal of a command line as an error of pgark's own: its suggestion becomes the hint, and the hint names
 * the command whose help explains the rest.
 */
export function usageError(error: CommanderError, command: Command): PgarkError {
  const message = error.message.replace(/^error: /, '').replace(SUGGESTION, '');
  const suggestion = SUGGESTION.exec(error.message)?.[1];
  const where = whatThereIs(command);
  return new PgarkError('usage', message.replace(/\.$/, ''), {
    hint: suggestion === undefined ? where : `did you mean ${suggestion.replace(/^one of /, '')}? ${where}`,
    cause: error,
  });
}
