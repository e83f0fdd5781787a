import { createHash, randomUUID } from 'node:crypto';
import type { ByteStream } from '../../src/common/bytes.ts';
import { systemClock, type Clock } from '../../src/common/clock.ts';
import { PgarkError } from '../../src/common/errors.ts';
import { abortable } from '../../src/storage/abortable.ts';
import { assertKey, assertKeyPrefix, compareKeys } from '../../src/storage/keys.ts';
import {
  SMALL_OBJECT_BYTES_MAX,
  type CallOptions,
  type ObjectBody,
  type ObjectInfo,
  type ObjectKey,
  type ObjectStore,
  type ProviderProfile,
  type PutSmallOptions,
  type PutStreamOptions,
  type StoredObject,
  type UploadInfo,
  type ByteRange,
} from '../../src/storage/object-store.ts';

interface Entry {
  readonly bytes: Uint8Array;
  readonly info: ObjectInfo;
}

export interface MemoryStoreOptions {
  readonly kind?: ObjectStore['kind'];
  /** Where the store's time comes from. Default: the system's. */
  readonly clock?: Pick<Clock, 'now'>;
  /** Default: true. */
  readonly conditionalWrites?: boolean;
  /** Default: true, as object stores do. */
  readonly keepsMetadata?: boolean;
  /** Default: `memory:`. */
  readonly location?: string;
}

/**
 * A store in memory, for tests of logic, time and faults. It keeps the contract of object stores; a second client of the
 * same place is the same object.
 */
export class MemoryStore implements ObjectStore {
  readonly kind: ObjectStore['kind'];
  readonly location: string;
  readonly objects = new Map<ObjectKey, Entry>();
  readonly uploads = new Map<string, UploadInfo>();
  readonly #clock: Pick<Clock, 'now'>;
  readonly #conditionalWrites: boolean;
  readonly #keepsMetadata: boolean;

  constructor(options: MemoryStoreOptions = {}) {
    this.kind = options.kind ?? 's3';
    this.location = options.location ?? 'memory:';
    this.#clock = options.clock ?? systemClock;
    this.#conditionalWrites = options.conditionalWrites ?? true;
    this.#keepsMetadata = options.keepsMetadata ?? true;
  }

  async putSmall(key: ObjectKey, body: Uint8Array, options: PutSmallOptions = {}): Promise<ObjectInfo> {
    assertKey(key);
    await turn(options);
    if (body.length > SMALL_OBJECT_BYTES_MAX) throw new PgarkError('internal', `${key} is too large for putSmall`);
    const { condition } = options;
    const present = this.objects.get(key)?.info.etag;
    // Stores without conditional writes ignore the headers.
    if (condition && this.#conditionalWrites) {
      const holds = 'ifAbsent' in condition ? present === undefined : present === condition.ifMatch;
      if (!holds) throw new PgarkError('store-condition-failed', `${key} is not as it was`);
    }
    return this.#store(key, new Uint8Array(body), {});
  }

  async putStream(key: ObjectKey, body: ByteStream, options: PutStreamOptions = {}): Promise<StoredObject> {
    assertKey(key);
    await turn(options);
    this.#refuseTaken(key);
    const upload = { key, uploadId: randomUUID() };
    this.uploads.set(upload.uploadId, upload);
    try {
      await options.onUploadOpened?.(upload);
      const blocks: Uint8Array[] = [];
      let bytesTotal = 0;
      for await (const block of abortable(body, options.signal)) {
        blocks.push(new Uint8Array(block));
        bytesTotal += block.length;
        options.onBytesStored?.(bytesTotal);
      }
      await turn(options);
      this.#refuseTaken(key);
      if (!this.uploads.has(upload.uploadId)) throw new PgarkError('store-failed', `the upload of ${key} was aborted`);
      // A plain array: `slice` of a Buffer would not copy.
      const info = this.#store(key, new Uint8Array(Buffer.concat(blocks)), options.metadata ?? {});
      return { key, bytes: info.bytes, etag: info.etag, partCount: 1, confirmedBy: 'md5' };
    } finally {
      this.uploads.delete(upload.uploadId);
    }
  }

  async get(key: ObjectKey, options: CallOptions & { readonly range?: ByteRange } = {}): Promise<ObjectBody> {
    assertKey(key);
    await turn(options);
    const entry = this.objects.get(key);
    if (entry === undefined) throw new PgarkError('object-not-found', `there is no ${key}`);
    const { start = 0, end } = options.range ?? {};
    const bytes = entry.bytes.slice(start, end === undefined ? undefined : end + 1);
    const body = async function* (): ByteStream {
      if (bytes.length > 0) yield bytes.slice();
    };
    return { info: entry.info, body: abortable(body(), options.signal) };
  }

  async head(key: ObjectKey, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    assertKey(key);
    await turn(options);
    return this.objects.get(key)?.info;
  }

  async *list(
    prefix: string,
    options: CallOptions & { readonly startAfter?: ObjectKey } = {},
  ): AsyncIterable<ObjectInfo> {
    assertKeyPrefix(prefix);
    await turn(options);
    const after = options.startAfter;
    const found = [...this.objects.keys()]
      .filter((key) => key.startsWith(prefix) && (after === undefined || compareKeys(key, after) > 0))
      .sort(compareKeys);
    for (const key of found) {
      options.signal?.throwIfAborted();
      const entry = this.objects.get(key);
      if (entry === undefined) continue;
      const { metadata: _metadata, ...info } = entry.info;
      yield info;
    }
  }

  async delete(key: ObjectKey, options: CallOptions = {}): Promise<void> {
    assertKey(key);
    await turn(options);
    this.objects.delete(key);
  }

  async *listUploads(prefix: string, options: CallOptions = {}): AsyncIterable<UploadInfo> {
    assertKeyPrefix(prefix);
    await turn(options);
    for (const upload of this.uploads.values()) if (upload.key.startsWith(prefix)) yield upload;
  }

  async abortUpload(upload: UploadInfo, options: CallOptions = {}): Promise<void> {
    assertKey(upload.key);
    await turn(options);
    if (this.uploads.get(upload.uploadId)?.key === upload.key) this.uploads.delete(upload.uploadId);
  }

  async now(options: CallOptions = {}): Promise<Date> {
    await turn(options);
    return this.#clock.now();
  }

  async probe(options: CallOptions = {}): Promise<ProviderProfile> {
    await turn(options);
    return {
      conditionalWrites: this.#conditionalWrites,
      partCountMax: 10_000,
      partBytesMin: 1,
      equalParts: false,
      partChecksum: 'md5',
      clockSkewMs: 0,
    };
  }

  async close(): Promise<void> {}

  #refuseTaken(key: ObjectKey): void {
    if (this.objects.has(key)) throw new PgarkError('object-exists', `${key} is already there`);
  }

  #store(key: ObjectKey, bytes: Uint8Array, metadata: Readonly<Record<string, string>>): ObjectInfo {
    const etag = createHash('md5').update(bytes).digest('hex');
    const kept = this.#keepsMetadata ? { metadata } : {};
    const info = { key, bytes: bytes.length, modified: this.#clock.now(), etag, ...kept };
    this.objects.set(key, { bytes, info });
    return info;
  }
}

/** Every call ends in a later turn of the event loop, as a real one does, so that callers interleave. */
async function turn({ signal }: CallOptions): Promise<void> {
  signal?.throwIfAborted();
  await Promise.resolve();
  signal?.throwIfAborted();
}
