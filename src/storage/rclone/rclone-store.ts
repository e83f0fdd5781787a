import type { ByteStream } from '../../common/bytes.ts';
import { assert, isPgarkError } from '../../common/errors.ts';
import { assertKeyPrefix, compareKeys } from '../keys.ts';
import {
  type ByteRange,
  type CallOptions,
  type ObjectBody,
  type ObjectInfo,
  type ObjectKey,
  type ObjectStore,
  type ProbeOptions,
  type ProviderProfile,
  type PutSmallOptions,
  type PutStreamOptions,
  SMALL_OBJECT_BYTES_MAX,
  type StoredObject,
  type UploadInfo,
} from '../object-store.ts';
import { RcloneCalls, type StatOptions } from './calls.ts';
import { type Entry, HASHED_BYTES_MAX, infoOf } from './entries.ts';
import type { RunDescription } from './failures.ts';
import { assertWritable, profileOf } from './features.ts';
import { assertRcloneKey, isRcloneKey } from './names.ts';
import { readNotes, removeUpload } from './notes.ts';
import type { RcloneStoreOptions } from './options.ts';
import { Place } from './place.ts';
import { getObject } from './reader.ts';
import { RemoteClock } from './remote-clock.ts';
import { putSmallObject } from './small-objects.ts';
import { putStreamObject } from './upload.ts';

/**
 * Any remote that rclone knows, by running rclone: one process for each step, some 50 to 100 ms each. docs/adr/0011-rclone.md
 * says what differs from the other stores and why: no conditional writes (conditions are looked at before the write), no
 * user metadata, and the local clock where the remote has none of its own.
 *
 * What the remote cannot do by itself is done with reserved names (names.ts) and, in the end, a rename.
 */
export class RcloneStore implements ObjectStore {
  readonly kind = 'rclone';
  readonly location: string;
  readonly #place: Place;
  readonly #clock: RemoteClock;
  #clockSkewMs = 0;

  constructor(options: RcloneStoreOptions) {
    const calls = new RcloneCalls(options);
    this.location = calls.location;
    this.#place = new Place(calls);
    this.#clock = new RemoteClock(this.#place);
  }

  async putSmall(key: ObjectKey, body: Uint8Array, options: PutSmallOptions = {}): Promise<ObjectInfo> {
    assertRcloneKey(key);
    assert(body.length <= SMALL_OBJECT_BYTES_MAX, `putSmall stores at most ${SMALL_OBJECT_BYTES_MAX} bytes`);
    options.signal?.throwIfAborted();
    // The caller may use its memory again while rclone still reads.
    return putSmallObject(this.#place, key, body.slice(), options);
  }

  async putStream(key: ObjectKey, body: ByteStream, options: PutStreamOptions = {}): Promise<StoredObject> {
    assertRcloneKey(key);
    options.signal?.throwIfAborted();
    return putStreamObject(this.#place, key, body, options);
  }

  async get(key: ObjectKey, options: CallOptions & { readonly range?: ByteRange } = {}): Promise<ObjectBody> {
    assertRcloneKey(key);
    options.signal?.throwIfAborted();
    return getObject(this.#place, key, options);
  }

  async head(key: ObjectKey, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    assertRcloneKey(key);
    options.signal?.throwIfAborted();
    return (await this.#place.find(key, options))?.info;
  }

  async *list(
    prefix: string,
    { startAfter = '', signal }: CallOptions & { readonly startAfter?: ObjectKey } = {},
  ): AsyncGenerator<ObjectInfo> {
    assertKeyPrefix(prefix);
    signal?.throwIfAborted();
    const call = { ...(signal && { signal }) };
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    const traits = await this.#place.traits(call);
    const run = { doing: `list ${this.location}`, subject: '' };
    const infos = (await this.#listHashed(folder, run, call)).flatMap((entry) => {
      const key = folder + entry.path;
      const isMeant =
        key.startsWith(prefix) && isRcloneKey(key) && entry.bytes >= 0 && compareKeys(key, startAfter) > 0;
      return isMeant ? [infoOf(key, entry, traits)] : [];
    });
    infos.sort((a, b) => compareKeys(a.key, b.key));
    let last: ObjectKey | undefined;
    for (const info of infos) {
      signal?.throwIfAborted();
      // Some drives keep several files of one name, and reads take one of them.
      if (info.key !== last) yield info;
      last = info.key;
    }
  }

  /**
   * Hashes are asked for where an etag needs them only: some remotes know those of large objects by a question for each,
   * so that large and small ones are listed apart, side by side.
   */
  async #listHashed(folder: string, run: RunDescription, call: CallOptions): Promise<Entry[]> {
    const { hash, hashIsCheap } = await this.#place.traits(call);
    if (!hashIsCheap) return this.#listFolder(folder, run, [], call);
    const parts = await Promise.all([
      this.#listFolder(folder, run, [`--max-size=${HASHED_BYTES_MAX}B`], { ...call, hash }),
      this.#listFolder(folder, run, [`--min-size=${HASHED_BYTES_MAX + 1}B`], call),
    ]);
    return parts.flat();
  }

  /** A folder that is not there is an empty one, but a root that is not there is none. */
  async #listFolder(
    folder: string,
    run: RunDescription,
    filter: readonly string[],
    options: StatOptions,
  ): Promise<Entry[]> {
    const { calls } = this.#place;
    const path = folder.replace(/\/$/, '');
    try {
      const entries = await calls.list(path, run, ['--fast-list', ...filter], options);
      const isAlone = entries.length === 1 && entries[0]?.path === path.slice(path.lastIndexOf('/') + 1);
      return path !== '' && isAlone ? await this.#listInside(path, run, filter, options) : entries;
    } catch (error) {
      if (isPgarkError(error, 'store-failed') && error.message.includes(IS_OBJECT)) {
        return this.#listInside(path, run, filter, options);
      }
      if (!isPgarkError(error, 'object-not-found')) throw error;
      await this.#place.assertRoot(options);
      return [];
    }
  }

  /** What lies in a folder beside an object of the same name, which rclone would list alone. */
  async #listInside(
    path: string,
    run: RunDescription,
    filter: readonly string[],
    options: StatOptions,
  ): Promise<Entry[]> {
    const args = [`--include=/${globOf(path)}/**`, ...filter];
    const inside = await this.#place.calls.list('', run, args, options);
    return inside.map((entry) => ({ ...entry, path: entry.path.slice(path.length + 1) }));
  }

  async delete(key: ObjectKey, options: CallOptions = {}): Promise<void> {
    assertRcloneKey(key);
    options.signal?.throwIfAborted();
    await this.#place.remove(key, this.#place.calls.describe('delete', key), options);
  }

  /** Uploads of other programs have no place of their own on a remote: only those of pgark are found. */
  async *listUploads(prefix: string, { signal }: CallOptions = {}): AsyncGenerator<UploadInfo> {
    assertKeyPrefix(prefix);
    signal?.throwIfAborted();
    for (const upload of await readNotes(this.#place, { ...(signal && { signal }) })) {
      signal?.throwIfAborted();
      if (upload.key.startsWith(prefix)) yield upload;
    }
  }

  async abortUpload(upload: UploadInfo, options: CallOptions = {}): Promise<void> {
    assertRcloneKey(upload.key);
    options.signal?.throwIfAborted();
    const open = await readNotes(this.#place, options);
    const isOpen = open.some(({ key, uploadId }) => key === upload.key && uploadId === upload.uploadId);
    if (isOpen) await removeUpload(this.#place, upload, options);
  }

  async now(options: CallOptions = {}): Promise<Date> {
    options.signal?.throwIfAborted();
    return this.#clock.now(options);
  }

  async probe(options: ProbeOptions = {}): Promise<ProviderProfile> {
    const { signal } = options;
    signal?.throwIfAborted();
    const call = { ...(signal && { signal }) };
    const traits = await this.#place.traits(call);
    if (options.write === true || options.delete === true) {
      assertWritable(traits, this.location);
      await this.#place.makeRoot(call);
      const { clock } = this.#place.calls.settings;
      const now = await this.#clock.measure({ ...call, delete: options.delete === true });
      this.#clockSkewMs = Math.round(now.getTime() - clock.now().getTime());
    }
    await this.#place.assertRoot(call);
    return profileOf(traits, this.#clockSkewMs);
  }

  async close(): Promise<void> {
    // Nothing is held open between calls.
  }
}

/** rclone's words where what is to be listed, with filters, is an object. */
const IS_OBJECT = "can't limit to single files";

/** The path as a pattern of rclone's that only it matches. */
const globOf = (path: string): string => path.replace(/[\\*?[\]{},]/g, '\\$&');
