import { PgarkError } from '../../common/errors.ts';
import type { CallOptions } from '../object-store.ts';
import { clockPath } from './names.ts';
import type { Place } from './place.ts';

/** A time that no clock shows any more. */
const LONG_AGO = '2001-02-03T04:05:06';
const LONG_AGO_NS_MAX = BigInt(Date.UTC(2010, 0)) * 1_000_000n;

/**
 * The remote's clock, as far as it has one to be seen. An object is written with a modification time of long ago: where the
 * remote then tells that very time it keeps what it is told, and no server's clock shows (local disks, SFTP, drives). Where
 * it tells the present, that is the server's own time (S3, Swift).
 */
export class RemoteClock {
  readonly #place: Place;
  #keepsWhatItIsTold = false;

  constructor(place: Place) {
    this.#place = place;
  }

  /** This machine's time where the remote has none of its own. */
  async now(options: CallOptions): Promise<Date> {
    return this.#keepsWhatItIsTold
      ? this.#place.calls.settings.clock.now()
      : this.measure({ ...options, delete: false });
  }

  /** Writes, looks, deletes. That the object cannot be deleted counts only with `delete`. */
  async measure({ signal, ...options }: CallOptions & { readonly delete: boolean }): Promise<Date> {
    const { calls } = this.#place;
    const { clock, random, logger } = calls.settings;
    const call = { ...(signal && { signal }) };
    const path = clockPath(random);
    const run = { doing: `write to ${calls.location}`, subject: '' };
    // Says best what is wrong: some stores have no words for a write that they refuse.
    await this.#place.traits(call);
    await this.#place.assertRoot(call);
    await calls.touch(path, LONG_AGO, run, call);
    const entry = await this.#place.file(path, run, { ...call, withHash: false });
    try {
      await this.#place.remove(path, { ...run, doing: `delete from ${calls.location}` }, call);
    } catch (error) {
      signal?.throwIfAborted();
      if (options.delete) throw error;
      logger.debug('store.not-deleted', `could not remove ${path} from ${calls.location}`, { path });
    }
    if (entry === undefined) {
      throw new PgarkError('store-failed', `cannot write to ${calls.location}: what was written is not there`);
    }
    this.#keepsWhatItIsTold = entry.modifiedNs < LONG_AGO_NS_MAX;
    return this.#keepsWhatItIsTold ? clock.now() : new Date(Number(entry.modifiedNs / 1_000_000n));
  }
}
