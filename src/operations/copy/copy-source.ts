import { isPgarkError, messageOf, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { CopyPlace } from './copy-request.ts';

/** Tells of an attempt that what it threw came from the storage that was read. */
export type OfSource = (thrown: unknown) => boolean;

interface SourceWork {
  /** What is copied, for people. */
  readonly what: string;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/**
 * The same from one storage after the other, until one gives it. What is not the fault of the storage that was read ends it at
 * once. Error: that of the last one, with the storage's name.
 */
export async function fromFirst<T>(
  places: readonly CopyPlace[],
  { what, logger, signal }: SourceWork,
  attempt: (place: CopyPlace) => Promise<T>,
  isOfSource: OfSource = () => true,
): Promise<T> {
  for (const [index, place] of places.entries()) {
    try {
      return await attempt(place);
    } catch (thrown) {
      signal.throwIfAborted();
      if (!isPgarkError(thrown) || !isOfSource(thrown)) throw thrown;
      const failed = `${what} cannot be copied from ${place.name}: ${messageOf(thrown)}`;
      const { code, hint, details } = thrown;
      if (index === places.length - 1) throw new PgarkError(code, failed, { hint, details, cause: thrown });
      logger.warning('copy.source_failed', `${failed}; it is taken from another storage`, {
        storage: place.name,
        code,
      });
    }
  }
  throw new PgarkError('backup-not-found', `no storage has ${what}`);
}
