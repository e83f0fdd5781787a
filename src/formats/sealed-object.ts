import type { ByteStream } from '../common/bytes.ts';
import { assert, PgarkError } from '../common/errors.ts';
import { reblock } from '../pipeline/blocks.ts';
import { compress, defaultBlocksInFlightMax } from '../pipeline/compress.ts';
import type { Compression } from '../pipeline/compression.ts';
import { namingObject } from '../pipeline/corrupt.ts';
import { decompress } from '../pipeline/decompress.ts';
import { Digest, verifyDigest } from '../pipeline/digest.ts';
import type { DecryptionKeys, EncryptionRecord, Sealer } from '../pipeline/encryption/sealer.ts';
import { FanOut, type FanOutBranch } from '../pipeline/fan-out.ts';
import { meter } from '../pipeline/meter.ts';
import { pipe, type Transform } from '../pipeline/transform.ts';
import type { Manifest, ManifestObject } from '../repository/manifest.ts';
import type { ObjectKey, ObjectStore, PutStreamOptions, StoredObject } from '../storage/object-store.ts';

/** What every object of a backup goes through on its way to the store. */
export interface Seal {
  readonly compression: Compression;
  readonly sealer?: Sealer | undefined;
}

export interface SealedStreamRequest {
  readonly key: ObjectKey;
  readonly role: string;
  /** Its `return()` ends it promptly, also while a block is awaited (`leftAtOnce`): it is called, and waited for. */
  readonly source: ByteStream;
  readonly seal: Seal;
  /** Stores that the object goes into; each takes one outlet. */
  readonly outlets: number;
  /** How many streams are sealed at the same time and share the processors. Default: 1. */
  readonly streamsAtOnce?: number;
  /** Whether digests are made beside the main thread, which a fast source keeps busy. Default: they are not. */
  readonly digestsInThread?: boolean;
  /** Whether the content has a digest of its own, besides that of what is stored of it. Default: it has. */
  readonly isContentDigested?: boolean;
  /** Plain bytes taken from the source so far, for progress. */
  readonly onPlainBytes?: (bytesTotal: number) => void;
  /** Told once, when all has passed and before any store has confirmed it. */
  readonly onSealed?: ((digests: SealedDigests) => void) | undefined;
}

/** What is known of an object as soon as all of it has passed. */
export type SealedDigests = Pick<ManifestObject, 'storedBytes' | 'storedSha256' | 'plainBytes' | 'plainSha256'>;

/** What a put has come to: the object's record for the manifest, and what the store confirmed. */
export interface SealedObject {
  readonly object: ManifestObject;
  readonly stored: StoredObject;
}

/**
 * `source → plain digest, or its length alone → compress → encrypt → stored digest`, made once, and put into one or several stores through its
 * outlets. The slowest store sets the pace, and an outlet that is neither used nor left holds up the others.
 */
export class SealedStream {
  readonly outlets: readonly SealedOutlet[];
  readonly #fanOut: FanOut;
  readonly #source: AsyncIterator<Uint8Array>;
  #sourceEnd: Promise<void> | undefined;
  #sourceFailure: { readonly error: unknown } | undefined;

  constructor(request: SealedStreamRequest) {
    const { key, role, source, seal, onPlainBytes, onSealed } = request;
    const inThread = request.digestsInThread ?? false;
    const digest = request.isContentDigested === false ? undefined : new Digest({ inThread });
    // What comes first of it may be short: a header, or a block that shrinks.
    const sealed = new Digest({ inThread: inThread && (digest ?? 'always') });
    const plain = { bytes: 0, digest };
    const stages: Transform[] = [
      reblock(),
      ...(digest === undefined ? [] : [digest.tap]),
      meter((total) => {
        plain.bytes = total;
        onPlainBytes?.(total);
      }),
    ];
    stages.push(compress(seal.compression, { blocksInFlightMax: blocksAtOnce(request.streamsAtOnce) }));
    if (seal.sealer) stages.push(seal.sealer.seal());
    stages.push(sealed.tap);
    if (onSealed) stages.push(atEnd(() => onSealed(digestsOf(plain, sealed))));
    const iterator = source[Symbol.asyncIterator]();
    this.#source = iterator;
    const watched: AsyncIterator<Uint8Array> = {
      next: () => this.#nextOfSource(),
      return: async () => (await iterator.return?.()) ?? { done: true, value: undefined },
    };
    const stream = pipe({ [Symbol.asyncIterator]: () => watched }, ...stages);
    this.#fanOut = new FanOut(stream, request.outlets, () => void this.#endSource());
    const facts: StreamFacts = { key, role, plain, sealed, allLeft: async () => this.#sourceEnd };
    this.outlets = this.#fanOut.branches.map((branch) => new SealedOutlet(facts, branch));
  }

  /** Whether bytes of the source are waited for. */
  get awaited(): boolean {
    return this.#fanOut.pulling;
  }

  /** What the source threw, if it did so by itself: each put that was under way has rejected with the same. */
  get sourceFailure(): { readonly error: unknown } | undefined {
    return this.#sourceFailure;
  }

  /** Leaves all outlets; resolves when the source has ended. */
  async close(): Promise<void> {
    for (const outlet of this.outlets) outlet.leave();
    await this.#endSource();
  }

  async #nextOfSource(): Promise<IteratorResult<Uint8Array>> {
    try {
      return await this.#source.next();
    } catch (error) {
      // One that is told to end is not the cause of whatever is going on.
      if (this.#sourceEnd === undefined) this.#sourceFailure = { error };
      throw error;
    }
  }

  /** A store that fails has told the last stage to end, and that one waits for the source's next block. */
  #endSource(): Promise<void> {
    this.#sourceEnd ??= endQuietly(this.#source);
    return this.#sourceEnd;
  }
}

function digestsOf(plain: StreamFacts['plain'], sealed: Digest): SealedDigests {
  return {
    storedBytes: sealed.bytes,
    storedSha256: sealed.sha256,
    plainBytes: plain.bytes,
    ...(plain.digest === undefined ? {} : { plainSha256: plain.digest.sha256 }),
  };
}

function atEnd(ended: () => void): Transform {
  return async function* toTheEnd(source) {
    yield* source;
    ended();
  };
}

/** Two at least, so that a block is compressed while another one comes or goes. */
function blocksAtOnce(streamsAtOnce = 1): number {
  return Math.max(Math.min(2, defaultBlocksInFlightMax()), Math.ceil(defaultBlocksInFlightMax() / streamsAtOnce));
}

interface StreamFacts {
  readonly key: ObjectKey;
  readonly role: string;
  readonly plain: { readonly bytes: number; readonly digest: Digest | undefined };
  readonly sealed: Digest;
  /** Resolves at once while there are outlets in use, otherwise when the source has ended. */
  readonly allLeft: () => Promise<void>;
}

/** One store's side of a `SealedStream`. */
export class SealedOutlet {
  readonly #facts: StreamFacts;
  readonly #branch: FanOutBranch;

  constructor(facts: StreamFacts, branch: FanOutBranch) {
    this.#facts = facts;
    this.#branch = branch;
  }

  get key(): ObjectKey {
    return this.#facts.key;
  }

  /** Whether the store waits for bytes, so that it is not the store that holds the stream up. */
  get waiting(): boolean {
    return this.#branch.waiting;
  }

  /**
   * Puts the object into a store. If the source throws, nothing is stored and its error passes through. An abort leaves
   * the stream at once, so that a store which hangs holds up no other. However the last put ends, the source has ended too.
   */
  async put(store: ObjectStore, options: PutStreamOptions): Promise<SealedObject> {
    const { key, role, plain, sealed, allLeft } = this.#facts;
    const { signal } = options;
    const leave = (): void => this.leave(signal?.reason);
    signal?.addEventListener('abort', leave, { once: true });
    if (signal?.aborted) leave();
    let stored: StoredObject;
    try {
      stored = await store.putStream(key, this.#branch, options);
    } finally {
      signal?.removeEventListener('abort', leave);
      this.leave();
      await allLeft();
    }
    assert(stored.bytes === sealed.bytes, `the store holds ${stored.bytes} bytes of ${key}, ${sealed.bytes} were sent`);
    return {
      stored,
      object: {
        key,
        role,
        ...digestsOf(plain, sealed),
        etag: stored.etag,
        confirmedBy: stored.confirmedBy,
      },
    };
  }

  leave(reason?: unknown): void {
    this.#branch.leave(reason);
  }
}

/** What a source says while it is given up changes nothing; one that has come to its end says nothing. */
async function endQuietly(iterator: AsyncIterator<Uint8Array>): Promise<void> {
  try {
    await iterator.return?.();
  } catch {}
}

/** What lies in a store, and is compared without a key. */
export type StoredFacts = Pick<ManifestObject, 'key' | 'storedBytes' | 'storedSha256'>;

export interface ReadSealedOptions {
  readonly keys: DecryptionKeys;
  readonly signal?: AbortSignal | undefined;
  /** Stored bytes read so far, for progress. */
  readonly onStoredBytes?: (bytesTotal: number) => void;
  /** Blocks that are decompressed at once. Default: so many that every processor is busy. */
  readonly blocksInFlightMax?: number;
}

/**
 * `get → stored digest`: an object as it lies in the store, without a key. The stream ends normally only if length and
 * digest are those of the manifest. Errors: `object-not-found`, `corrupt`, `store-…`.
 */
export async function* readStored(
  store: ObjectStore,
  object: StoredFacts,
  options: Omit<ReadSealedOptions, 'keys'>,
): ByteStream {
  const { info, body } = await store.get(object.key, options.signal ? { signal: options.signal } : {});
  checkStoredSize(object, info.bytes);
  const metered = options.onStoredBytes ? meter(options.onStoredBytes)(body) : body;
  yield* verifyDigest({ bytes: object.storedBytes, sha256: object.storedSha256 }, object.key)(metered);
}

/**
 * `get → stored digest → decrypt → decompress → plain digest`: the plain bytes of an object of a manifest. The stream
 * ends normally only if both lengths are right, and all digests that there are. Errors: `object-not-found`, `corrupt`, `wrong-key`,
 * `key-missing`, `store-…`.
 */
export async function* readSealed(
  store: ObjectStore,
  manifest: Pick<Manifest, 'compression' | 'encryption'>,
  object: ManifestObject,
  options: ReadSealedOptions,
): ByteStream {
  const { algorithm } = manifest.compression;
  if (algorithm === 'lz4') {
    throw new PgarkError(
      'store-unsupported',
      `${object.key} is compressed with lz4, which this version does not read`,
      {
        hint: 'decompress it by hand: lz4 -d',
      },
    );
  }
  const { blocksInFlightMax } = options;
  const unpack = decompress(algorithm, blocksInFlightMax === undefined ? {} : { blocksInFlightMax });
  yield* pipe(
    readDecrypted(store, manifest, object, options),
    namingObject(object.key, () => unpack),
    verifyDigest({ bytes: object.plainBytes, sha256: object.plainSha256 }, `the content of ${object.key}`),
  );
}

/**
 * `get → stored digest → decrypt`: an object of a manifest as it was compressed. Errors: `object-not-found`, `corrupt`,
 * `wrong-key`, `key-missing`, `store-…`.
 */
export async function* readDecrypted(
  store: ObjectStore,
  { encryption }: Pick<Manifest, 'encryption'>,
  object: StoredFacts,
  options: ReadSealedOptions,
): ByteStream {
  const stages: Transform[] = [];
  if (encryption) {
    // Loaded where it is needed: who encrypts nothing starts without its library.
    const { openSealed } = await import('../pipeline/encryption/open-sealed.ts');
    const record = encryptionRecord(encryption);
    stages.push(namingObject(object.key, () => openSealed(record, options.keys)));
  }
  yield* pipe(readStored(store, object, options), ...stages);
}

/** Error: `corrupt` if an object in the store does not have the length that its manifest says. */
export function checkStoredSize(object: Omit<StoredFacts, 'storedSha256'>, bytes: number): void {
  if (bytes === object.storedBytes) return;
  throw new PgarkError(
    'corrupt',
    `${object.key} has ${bytes} bytes, ${object.storedBytes} were recorded: it was ${bytes < object.storedBytes ? 'truncated or replaced' : 'replaced'}`,
  );
}

function encryptionRecord(record: NonNullable<Manifest['encryption']>): EncryptionRecord {
  const { scheme, keyFingerprints, iterations } = record;
  return { scheme, keyFingerprints, ...(iterations === undefined ? {} : { iterations }) };
}
