import { asPgarkError, type PgarkError } from '../../common/errors.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { Place } from '../find-across.ts';
import type { OperationContext } from '../context.ts';

export interface LookedIn<T> {
  readonly name: string;
  readonly store: ObjectStore;
  readonly value: T;
}

/**
 * Asks all places at once. One that fails is told of and passed over, since another may have all that is needed. Errors: that of
 * the first place, if none has answered.
 */
export async function lookEverywhere<T>(
  places: readonly Place[],
  look: (store: ObjectStore) => Promise<T>,
  { logger, signal }: OperationContext,
): Promise<readonly LookedIn<T>[]> {
  const failures: { readonly name: string; readonly error: PgarkError }[] = [];
  const looks = await Promise.all(
    places.map(async ({ name, open }) => {
      try {
        const store = await open();
        return [{ name, store, value: await look(store) }];
      } catch (thrown) {
        signal.throwIfAborted();
        failures.push({ name, error: asPgarkError(thrown) });
        return [];
      }
    }),
  );
  const answered = looks.flat();
  const [failure] = failures;
  if (answered.length === 0 && failure !== undefined) throw failure.error;
  for (const { name, error } of failures) {
    const words = `storage ${name} is passed over: ${error.message}; it may hold something newer than what the others have`;
    logger.warning('storage.passed_over', words, { storage: name, code: error.code });
  }
  return answered;
}
