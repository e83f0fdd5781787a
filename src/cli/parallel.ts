import { PgarkError } from '../common/errors.ts';

const PARALLEL_MAX = 64;

/** What `--jobs` says, 1 to 64, as the configuration has it; undefined if nothing. Error: `usage`. */
export function parallelOf(text: unknown): number | undefined {
  if (typeof text !== 'string') return undefined;
  const number = Number(text);
  if (Number.isInteger(number) && number >= 1 && number <= PARALLEL_MAX) return number;
  throw new PgarkError('usage', `--jobs ${text} is no number of connections`, {
    hint: `say a whole number from 1 to ${PARALLEL_MAX}`,
  });
}
