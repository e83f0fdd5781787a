import { asPgarkError, type PgarkError } from '../common/errors.ts';
import type { CommandRun } from './command.ts';

/** What came of it in one storage. */
export type Try<T> = { readonly storage: string } & ({ readonly value: T } | { readonly error: PgarkError });

export async function attempt<T>(storage: string, run: CommandRun, work: () => Promise<T>): Promise<Try<T>> {
  try {
    return { storage, value: await work() };
  } catch (thrown) {
    run.world.signal.throwIfAborted();
    return { storage, error: asPgarkError(thrown) };
  }
}
