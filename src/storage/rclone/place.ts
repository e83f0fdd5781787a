import { isPgarkError, PgarkError } from '../../common/errors.ts';
import type { CallOptions, ObjectInfo, ObjectKey } from '../object-store.ts';
import type { RcloneCalls } from './calls.ts';
import { type Entry, infoOf } from './entries.ts';
import type { RunDescription } from './failures.ts';
import { parseFeatures, type RemoteTraits } from './features.ts';

export interface Found {
  readonly info: ObjectInfo;
  readonly entry: Entry;
}

/** The remote's root: what it can do, and what is there. */
export class Place {
  readonly calls: RcloneCalls;
  #traits: RemoteTraits | undefined;
  #rootSeen = false;

  constructor(calls: RcloneCalls) {
    this.calls = calls;
  }

  async traits({ signal }: CallOptions = {}): Promise<RemoteTraits> {
    if (this.#traits !== undefined) return this.#traits;
    const traits = parseFeatures(await this.calls.features({ ...(signal && { signal }) }));
    if (traits.bucketMissing) {
      throw new PgarkError('storage-config-invalid', `${this.calls.location} names no bucket`, {
        hint: `write ${this.calls.remote.name}:bucket or ${this.calls.remote.name}:bucket/path`,
      });
    }
    this.#traits = traits;
    return traits;
  }

  /** Rejects with `store-bucket-missing` if the root is not there, which looks like a root without objects otherwise. */
  async assertRoot({ signal }: CallOptions = {}): Promise<void> {
    if (this.#rootSeen) return;
    const { location } = this.calls;
    try {
      await this.calls.stat('', { doing: `look at ${location}`, subject: '' }, { ...(signal && { signal }) });
    } catch (error) {
      if (!isPgarkError(error, 'object-not-found')) throw error;
      throw new PgarkError('store-bucket-missing', `there is no ${location}`, {
        hint: 'create the bucket or correct the path; below a remote without buckets, pgark makes the folder with the first backup',
      });
    }
    this.#rootSeen = true;
  }

  /** Whether a folder is there. Object storages call everything a folder that is no object. */
  async isFolder(path: string, run: RunDescription, call: CallOptions): Promise<boolean> {
    try {
      return (await this.calls.stat(path, run, call)).isFolder;
    } catch (error) {
      if (!isPgarkError(error, 'object-not-found')) throw error;
      await this.assertRoot(call);
      return false;
    }
  }

  /** Makes the root where it is an ordinary folder; buckets are never made. */
  async makeRoot({ signal }: CallOptions = {}): Promise<void> {
    if (this.#rootSeen || (await this.traits({ ...(signal && { signal }) })).bucketBased) return;
    const run = { doing: `make the folder ${this.calls.location}`, subject: '' };
    await this.calls.makeFolder(run, { ...(signal && { signal }) });
  }

  /** The file at a path, with its hash where `withHash` says so (by default: where that reads no object). */
  async file(
    path: string,
    run: RunDescription,
    options: CallOptions & { readonly withHash?: boolean } = {},
  ): Promise<Entry | undefined> {
    const { signal } = options;
    const call = { ...(signal && { signal }) };
    const traits = await this.traits(call);
    const hash = (options.withHash ?? traits.hashIsCheap) ? traits.hash : undefined;
    try {
      const entry = await this.calls.stat(path, run, { ...call, hash });
      if (entry.isFolder) await this.assertRoot(call);
      else this.#rootSeen = true;
      return entry.isFolder ? undefined : entry;
    } catch (error) {
      if (!isPgarkError(error, 'object-not-found')) throw error;
      await this.assertRoot(call);
      return undefined;
    }
  }

  async find(key: ObjectKey, options: CallOptions & { readonly withHash?: boolean } = {}): Promise<Found | undefined> {
    const entry = await this.file(key, this.calls.describe('look at', key), options);
    if (entry === undefined) return undefined;
    return { entry, info: infoOf(key, entry, await this.traits(options)) };
  }

  /** Removes a file; that it is not there, or is a folder, is no failure. rclone has no status of its own for that. */
  async remove(path: string, run: RunDescription, options: CallOptions = {}): Promise<void> {
    try {
      await this.calls.deleteFile(path, run, options);
    } catch (error) {
      options.signal?.throwIfAborted();
      if ((await this.file(path, run, { ...options, withHash: false })) !== undefined) throw error;
    }
  }

  /**
   * Renames a file that is complete. A run whose answer was lost is settled by looking: `moved` if it is where it should
   * be, `gone` if it is in neither place.
   */
  async move(from: string, key: ObjectKey, bytes: number, { signal }: CallOptions = {}): Promise<'moved' | 'gone'> {
    const call = { ...(signal && { signal }) };
    const run = this.calls.describe('write', key);
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.calls.moveOnce(from, key, run, call);
        return 'moved';
      } catch (error) {
        signal?.throwIfAborted();
        if ((await this.file(from, run, { ...call, withHash: false })) === undefined) {
          const there = await this.file(key, run, { ...call, withHash: false });
          return there?.bytes === bytes ? 'moved' : 'gone';
        }
        if (attempt > MOVES_AGAIN_MAX) throw error;
      }
    }
  }
}

/** Where both names are as before, the run did nothing; rclone repeats requests by itself. */
const MOVES_AGAIN_MAX = 1;
