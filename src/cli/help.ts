import type { Command } from 'commander';
import { PgarkError } from '../common/errors.ts';
import { nearest } from '../common/nearest.ts';

const SUGGESTIONS_MAX = 2;

/** `pgark key generate`: the command as a person types it. */
function commandPath(command: Command): string {
  return command.parent === null ? command.name() : `${commandPath(command.parent)} ${command.name()}`;
}

/** Whole commands to copy, each with what it does, at the end of a command's help. */
export function addExamples(command: Command, examples: readonly (readonly [command: string, does: string])[]): void {
  const lines = examples.map(([line, does]) => `  ${line}\n      ${does}`);
  command.addHelpText('after', ['\nExamples:', ...lines].join('\n'));
}

/** `pgark help`, `pgark help restore`, `pgark help key generate`. */
export function registerHelp(program: Command): void {
  program
    .command('help')
    .summary('print the help of a command')
    .description('Prints the help of a command, or of pgark as a whole.')
    .argument('[command...]', 'a command, such as restore or key generate')
    .action((names: readonly string[]) => {
      findCommand(program, names).outputHelp();
    });
}

function findCommand(program: Command, names: readonly string[]): Command {
  let found = program;
  for (const name of names) {
    const next = found.commands.find((command) => command.name() === name);
    if (next === undefined) throw unknownCommand(found, name);
    found = next;
  }
  return found;
}

function unknownCommand(within: Command, name: string): PgarkError {
  const known = within.commands.map((command) => command.name());
  const close = nearest(name, known, SUGGESTIONS_MAX);
  return new PgarkError('usage', `${commandPath(within)} has no command ${name}`, {
    hint: close.length > 0 ? `did you mean ${close.join(' or ')}?` : whatThereIs(within),
  });
}

/** Where the parser's errors send people who do not know how to go on. */
export function whatThereIs(command: Command): string {
  const path = commandPath(command);
  if (command.parent === null) return `${path} help lists the commands`;
  if (command.commands.length > 0) return `${path} --help lists its commands`;
  return `${path} --help shows its arguments and options`;
}
