import { asPgarkError, PgarkError } from '../common/errors.ts';
import { gravest, isOfDamage } from '../service/gravest.ts';
import type { CommandRun } from './command.ts';
import { reportError } from './errors.ts';

/** A storage that did not do what it was asked for, such as one that is away. */
export interface StorageFailure {
  readonly storage: string;
  readonly error: PgarkError;
}

/** What came of it in one storage. */
export type Try<T> = Done<T> | StorageFailure;

/** What a storage did. */
export interface Done<T> {
  readonly storage: string;
  readonly value: T;
}

export function doneOf<T>(tries: readonly Try<T>[]): readonly Done<T>[] {
  return tries.flatMap((each) => ('value' in each ? [each] : []));
}

export async function attempt<T>(storage: string, run: CommandRun, work: () => Promise<T>): Promise<Try<T>> {
  try {
    return { storage, value: await work() };
  } catch (thrown) {
    run.world.signal.throwIfAborted();
    return { storage, error: asPgarkError(thrown) };
  }
}

export function failuresOf(tries: readonly Try<unknown>[]): readonly StorageFailure[] {
  return tries.flatMap((each) => ('error' in each ? [each] : []));
}

/** The same as `--output json` shows it, with whatever else a command says of each. */
export function failureJson({ error, ...of }: StorageFailure): Record<string, unknown> {
  return { ...of, error: reportError(error) };
}

/**
 * What a command over several storages ends with, each of which was worked on by itself: nothing where none failed; that of
 * damage, or the first, where all did; that of damage too where only some did, since it must not be hidden, else `partial`. Says
 * of each on stderr why it failed, unless all of that is in what the command ends with; so whatever the command prints of the others
 * comes before.
 */
export function failureOfStorages(
  run: Pick<CommandRun, 'failure'>,
  failures: readonly StorageFailure[],
  storageCount: number,
  isAnyDone = new Set(failures.map(({ storage }) => storage)).size < storageCount,
): PgarkError | undefined {
  const worst = gravest(failures.map(({ error }) => error));
  if (worst === undefined || storageCount === 1) return worst;
  // One that does not answer says the same of everything that it is asked.
  const told = [
    ...new Map(failures.map((each) => [JSON.stringify([each.storage, each.error.message]), each])).values(),
  ];
  const tell = (each: StorageFailure): void => run.failure(`storage ${each.storage}`, each.error);
  const names = new Set(failures.map(({ storage }) => storage));
  const what = `${names.size} of ${storageCount} storages failed: `;
  if (isAnyDone && !isOfDamage(worst)) {
    told.forEach(tell);
    return new PgarkError('partial', what + [...names].join(', '));
  }
  // It has the messages of all, but one code and one hint, and no run.
  const hasMore = ({ error: { code, hint, runId } }: StorageFailure): boolean =>
    code !== worst.code || hint !== worst.hint || runId !== undefined;
  told.filter(hasMore).forEach(tell);
  const words = told.map(({ storage, error }) => `${storage}: ${error.message}`).join('; ');
  return new PgarkError(worst.code, what + words, { hint: worst.hint, cause: worst });
}
