import { link, lstat, mkdir, open, opendir, rm, unlink } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import type { ByteStream } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { assert, isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Random } from '../../common/random.ts';
import { abortable } from '../abortable.ts';
import { assertKeyPrefix } from '../keys.ts';
import {
  type ByteRange,
  type CallOptions,
  type ListOptions,
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
import { waitForClaims } from './claims.ts';
import {
  ensureDirectory,
  isPlainDirectory,
  refuseObstacle,
  removeEmptyDirectories,
  syncDirectory,
} from './directories.ts';
import { inspect } from './inspect.ts';
import {
  assertFileKey,
  clockFileName,
  fileNameOfUpload,
  findRoot,
  isFileKey,
  isReserved,
  mayHoldObjects,
  objectFolder,
  objectPath,
  realRoot,
  uploadIdOf,
  uploadsFolder,
  workFolder,
  workFolderParts,
} from './layout.ts';
import { tryConditions } from './probe.ts';
import { PROBE_STALE_MS, removeProbeLeftovers } from './probe-leftovers.ts';
import { discard, type PublishSettings, publishNew } from './publish.ts';
import { readContent, readFileBody, spanOf } from './read.ts';
import { storeSmall } from './small.ts';
import { ABSENT, fileError, io, unless } from './system-errors.ts';
import { finish, openUnfinished, writeStream } from './unfinished.ts';
import { walk } from './walk.ts';

/** Files of a list that are looked at at once. */
const LIST_LOOKS = 32;
const CLAIM_STALE_MS = 5_000;

export interface FileStoreOptions {
  /** Absolute path of the storage directory. It may be on an NFS or SMB mount. */
  readonly root: string;
  readonly clock: Clock;
  readonly random: Random;
  /** For how long an unfinished write of a small object is waited for before its writer counts as dead. Default: 5,000. */
  readonly claimStaleMs?: number;
  /** Age from which on what a probe left counts as left by a killed process. Default: an hour. */
  readonly probeStaleMs?: number;
}

/**
 * Objects as plain files in a directory (see layout.ts for what lies where): the embedded default storage.
 *
 * A file becomes visible by a link or a rename, after its content is on the disk, and the directory is synchronised
 * before a put resolves. Names that file systems cannot keep side by side are refused: an object `a` and an object `a/b`.
 * A delete waits for writes of the same object that are about to commit, but is itself no part of a condition: a
 * conditional write that begins in the very instant of the delete may still succeed.
 *
 * A root that is not there, in a directory that is, is an empty store to read from; a write probe makes it.
 *
 * File systems answer at once or not at all, so that an abort ends waiting for the body, for other writers and between
 * calls, but no call of the operating system that hangs (a dead NFS server).
 */
export class FileStore implements ObjectStore {
  readonly kind = 'file';
  readonly location: string;
  readonly #root: string;
  readonly #settings: PublishSettings;
  readonly #probeStaleMs: number;
  #profile: ProviderProfile | undefined;

  constructor(options: FileStoreOptions) {
    const { root, clock, random, claimStaleMs = CLAIM_STALE_MS } = options;
    if (!isAbsolute(root)) {
      throw new PgarkError('storage-config-invalid', `the storage directory must be an absolute path, not "${root}"`);
    }
    this.#root = resolve(root);
    this.location = `file://${this.#root}`;
    this.#probeStaleMs = options.probeStaleMs ?? PROBE_STALE_MS;
    this.#settings = { clock, random, staleMs: claimStaleMs, link };
  }

  async putSmall(key: ObjectKey, body: Uint8Array, { condition, signal }: PutSmallOptions = {}): Promise<ObjectInfo> {
    assertFileKey(key);
    assert(body.length <= SMALL_OBJECT_BYTES_MAX, `putSmall stores at most ${SMALL_OBJECT_BYTES_MAX} bytes`);
    signal?.throwIfAborted();
    const root = await realRoot(this.#root);
    const info = await io(
      `write the object ${JSON.stringify(key)}`,
      async () => {
        await refuseObstacle(root, key.split('/'));
        return storeSmall(root, key, body, condition, this.#settings, signal);
      },
      signal,
    );
    if (info !== undefined) return info;
    const why = condition !== undefined && 'ifAbsent' in condition ? 'is there already' : 'was changed or deleted';
    throw new PgarkError('store-condition-failed', `the object ${JSON.stringify(key)} ${why}: nothing was written`);
  }

  async putStream(key: ObjectKey, body: ByteStream, options: PutStreamOptions = {}): Promise<StoredObject> {
    assertFileKey(key);
    const { signal, onUploadOpened, onBytesStored } = options;
    signal?.throwIfAborted();
    const root = await realRoot(this.#root);
    const doing = `write the object ${JSON.stringify(key)}`;
    await io(doing, async () => {
      await refuseObstacle(root, key.split('/'));
      if ((await unless(ABSENT, () => lstat(objectPath(root, key)))) !== undefined) throw objectExists(key);
    });
    const { fileName, path, handle } = await io(doing, () => openUnfinished(root, key, this.#settings.random));
    try {
      const written = await (async () => {
        try {
          await onUploadOpened?.({ key, uploadId: uploadIdOf(fileName) ?? fileName });
          const bytes = await writeStream(handle, abortable(body, signal), doing, onBytesStored);
          signal?.throwIfAborted();
          return { bytes, inode: (await finish(handle, bytes, doing)).ino };
        } finally {
          await io(doing, () => handle.close());
        }
      })();
      return await io(doing, () => this.#publishStream(root, key, fileName, path, written, signal), signal);
    } finally {
      await discard(root, key, [fileName]);
    }
  }

  async #publishStream(
    root: string,
    key: ObjectKey,
    fileName: string,
    path: string,
    { bytes, inode }: { readonly bytes: number; readonly inode: bigint },
    signal: AbortSignal | undefined,
  ): Promise<StoredObject> {
    const inspected = await inspect(path, key);
    const outcome = inspected && (await publishNew({ root, key, fileName, inode }, this.#settings, signal));
    if (outcome === 'refused') throw objectExists(key);
    if (inspected === undefined || outcome !== 'published') {
      throw new PgarkError(
        'store-failed',
        `cannot write the object ${JSON.stringify(key)}: its upload was aborted by another process`,
        { hint: 'nothing was stored; run the command again, and not while another run prunes by force' },
      );
    }
    const stored = await unless(ABSENT, () => lstat(objectPath(root, key)));
    if (inspected.info.bytes !== bytes || (stored !== undefined && stored.size !== bytes)) {
      throw new PgarkError(
        'store-integrity',
        `the object ${JSON.stringify(key)} has ${stored?.size ?? inspected.info.bytes} bytes, and ${bytes} were written`,
      );
    }
    return { key, bytes, etag: inspected.info.etag, partCount: 1, confirmedBy: 'fsync' };
  }

  async get(key: ObjectKey, options: CallOptions & { readonly range?: ByteRange } = {}): Promise<ObjectBody> {
    assertFileKey(key);
    const { range, signal } = options;
    signal?.throwIfAborted();
    const root = await findRoot(this.#root);
    const found = root === undefined ? undefined : await this.#inspect(root, key);
    if (root === undefined || found === undefined) {
      throw new PgarkError('object-not-found', `there is no object ${JSON.stringify(key)} in ${this.location}`);
    }
    const { info, content } = found;
    const span = spanOf(range, info.bytes);
    const body =
      content === undefined
        ? readFileBody(objectPath(root, key), info, span, signal)
        : readContent(content, span, signal);
    return { info, body };
  }

  async head(key: ObjectKey, { signal }: CallOptions = {}): Promise<ObjectInfo | undefined> {
    assertFileKey(key);
    signal?.throwIfAborted();
    const root = await findRoot(this.#root);
    return root === undefined ? undefined : (await this.#inspect(root, key))?.info;
  }

  #inspect(root: string, key: ObjectKey): ReturnType<typeof inspect> {
    return io(`look at the object ${JSON.stringify(key)}`, async () =>
      (await isPlainDirectory(objectFolder(root, key))) ? inspect(objectPath(root, key), key) : undefined,
    );
  }

  async *list(prefix: string, { startAfter, signal, onUnseen }: ListOptions = {}): AsyncGenerator<ObjectInfo> {
    assertKeyPrefix(prefix);
    signal?.throwIfAborted();
    const root = await findRoot(this.#root);
    if (root === undefined) return;
    const gives = (name: string): boolean => !isReserved(name);
    const look = async (key: ObjectKey): Promise<ObjectInfo | undefined> => {
      try {
        return (await io(`look at the object ${JSON.stringify(key)}`, () => inspect(objectPath(root, key), key)))?.info;
      } catch (error) {
        if (onUnseen === undefined || !isPgarkError(error, 'store-access-denied')) throw error;
        onUnseen(key, error);
        return undefined;
      }
    };
    let batch: string[] = [];
    const looked = async (): Promise<ObjectInfo[]> => {
      const keys = batch;
      batch = [];
      return (await Promise.all(keys.map(look))).flatMap((info) => info ?? []);
    };
    try {
      for await (const path of walk(root, { prefix, startAfter, signal, enters: mayHoldObjects, gives, onUnseen })) {
        if (!isFileKey(path)) continue;
        batch.push(path);
        if (batch.length === LIST_LOOKS) yield* untilAborted(await looked(), signal);
      }
      yield* untilAborted(await looked(), signal);
    } catch (error) {
      signal?.throwIfAborted();
      throw fileError(error, `list the storage directory ${this.#root}`);
    }
  }

  async delete(key: ObjectKey, { signal }: CallOptions = {}): Promise<void> {
    assertFileKey(key);
    signal?.throwIfAborted();
    const root = await findRoot(this.#root);
    if (root === undefined) return;
    const folder = objectFolder(root, key);
    const path = objectPath(root, key);
    await io(
      `delete the object ${JSON.stringify(key)}`,
      async () => {
        if (!(await isPlainDirectory(folder))) return;
        const found = await unless(ABSENT, () => lstat(path));
        if (found === undefined || !found.isFile()) return;
        await waitForClaims(workFolder(root, key), this.#settings, signal);
        await unless(ABSENT, () => unlink(path));
        await unless(ABSENT, () => syncDirectory(folder));
        await removeEmptyDirectories(root, folder);
      },
      signal,
    );
  }

  async *listUploads(prefix: string, { signal }: CallOptions = {}): AsyncGenerator<UploadInfo> {
    assertKeyPrefix(prefix);
    signal?.throwIfAborted();
    const root = await findRoot(this.#root);
    if (root === undefined) return;
    const enters = (name: string): boolean => !isReserved(name);
    const gives = (name: string): boolean => uploadIdOf(name) !== undefined;
    try {
      for await (const path of walk(uploadsFolder(root), { prefix, signal, enters, gives })) {
        const slash = path.lastIndexOf('/');
        const key = path.slice(0, Math.max(slash, 0));
        const uploadId = uploadIdOf(path.slice(slash + 1));
        if (uploadId !== undefined && key.startsWith(prefix) && isFileKey(key)) yield { key, uploadId };
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw fileError(error, `list the unfinished uploads in ${this.#root}`);
    }
  }

  async abortUpload({ key, uploadId }: UploadInfo, { signal }: CallOptions = {}): Promise<void> {
    assertFileKey(key);
    signal?.throwIfAborted();
    const fileName = fileNameOfUpload(uploadId);
    if (fileName === undefined) return;
    const root = await findRoot(this.#root);
    if (root === undefined) return;
    const folder = workFolder(root, key);
    await io(`remove the unfinished upload of ${JSON.stringify(key)}`, async () => {
      if (!(await isPlainDirectory(folder))) return;
      await rm(join(folder, fileName), { force: true });
      await removeEmptyDirectories(uploadsFolder(root), folder);
    });
  }

  async now({ signal }: CallOptions = {}): Promise<Date> {
    signal?.throwIfAborted();
    const root = await realRoot(this.#root);
    return io(`read the clock of the file system of ${this.#root}`, async () => {
      const folder = await ensureDirectory(root, workFolderParts('').slice(0, 1), false);
      const path = join(folder, clockFileName(this.#settings.random));
      // Empty, so that it works on a full disk too: the time it was made is the file system's own.
      const handle = await open(path, 'wx', 0o600);
      try {
        return (await handle.stat()).mtime;
      } finally {
        await handle.close();
        await rm(path, { force: true });
      }
    });
  }

  async probe(options: ProbeOptions = {}): Promise<ProviderProfile> {
    const { signal } = options;
    const writes = options.write === true || options.delete === true;
    signal?.throwIfAborted();
    if (writes) await this.#makeRoot();
    const root = await realRoot(this.#root);
    await io(`read the storage directory ${this.#root}`, async () => (await opendir(root)).close());
    if (this.#profile !== undefined && !writes) return this.#profile;
    try {
      const conditionalWrites = await io(
        `write to the storage directory ${this.#root}`,
        () => tryConditions(root, this.#settings, signal),
        signal,
      );
      const now = await this.now(options);
      if (writes) await removeProbeLeftovers(root, now, this.#probeStaleMs);
      const clockSkewMs = Math.round(now.getTime() - this.#settings.clock.now().getTime());
      this.#profile = { ...basicProfile, conditionalWrites, clockSkewMs };
      return this.#profile;
    } catch (error) {
      // Enough to restore from; whoever wants to write asks for it and is told.
      if (!writes && isPgarkError(error, 'store-access-denied')) return basicProfile;
      throw error;
    }
  }

  /** Makes the directory itself, but not its parent: a missing parent is a wrong path or a disk that is not mounted. */
  async #makeRoot(): Promise<void> {
    const parent = dirname(this.#root);
    const made = await io(`make the storage directory ${this.#root}`, () =>
      unless(['EEXIST', ...ABSENT], async () => {
        await mkdir(this.#root, { mode: 0o700 });
        return true;
      }),
    );
    if (made === true) await io(`make the storage directory ${this.#root}`, () => syncDirectory(parent));
  }

  async close(): Promise<void> {
    // Nothing is held open between calls.
  }
}

/** A file has no parts; the limits are those of no upload. */
const basicProfile: ProviderProfile = {
  conditionalWrites: false,
  partCountMax: Number.MAX_SAFE_INTEGER,
  partBytesMin: 1,
  equalParts: false,
  partChecksum: 'fsync',
  clockSkewMs: 0,
};

function objectExists(key: ObjectKey): PgarkError {
  return new PgarkError('object-exists', `there is an object ${JSON.stringify(key)} already: nothing was written`);
}

function* untilAborted<T>(items: readonly T[], signal: AbortSignal | undefined): Generator<T> {
  for (const item of items) {
    signal?.throwIfAborted();
    yield item;
  }
}
