import type { ByteStream } from '../../common/bytes.ts';
import { assert, isPgarkError, PgarkError } from '../../common/errors.ts';
import { defaultRetryPolicy } from '../../common/retry.ts';
import { assertKey, assertKeyPrefix } from '../keys.ts';
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
  type WriteCondition,
} from '../object-store.ts';
import { BufferPool } from './buffer-pool.ts';
import { S3Calls } from './calls.ts';
import { connectS3, type S3Connection } from './client.ts';
import { abortUpload, listObjects, listUploads } from './listing.ts';
import type { S3StoreOptions } from './options.ts';
import { BUFFER_BYTES_MAX_DEFAULT, PART_BYTES_DEFAULT, planParts, SHARED_SHARE } from './part-plan.ts';
import { cautiousProfile, probeReach, type ProbeResult, probeWrites } from './probe.ts';
import { PROBE_STALE_MS } from './probe-leftovers.ts';
import type { S3Profile } from './profile.ts';
import { askProtection, assertLockable } from './protection.ts';
import { type ProviderFacts, providerFacts } from './provider.ts';
import { getObject } from './reader.ts';
import { assertBucketExists, deleteObject, headObject, infoOf, putObject } from './small-objects.ts';
import { uploadStream } from './upload.ts';

const PARTS_IN_FLIGHT_DEFAULT = 4;
const PARTS_IN_FLIGHT_MAX = 8;
/** One object soon after another, such as segments of WAL, use the same memory. */
const SHARED_KEEP_MS = 1_000;

/** Any S3-compatible store, by the AWS SDK's own commands. What a store can do is found out by trying (`probe`). */
export class S3Store implements ObjectStore {
  readonly kind = 's3';
  readonly location: string;
  readonly #options: S3StoreOptions;
  readonly #prefix: string;
  readonly #connection: S3Connection;
  readonly #calls: S3Calls;
  readonly #facts: ProviderFacts;
  readonly #bufferBytesMax: number;
  /** For bodies that are put at the same time. */
  readonly #sharedBuffers: BufferPool;
  #probed: ProbeResult | undefined;
  #bucketSeen = false;

  constructor(options: S3StoreOptions) {
    const inFlight = options.partsInFlight ?? PARTS_IN_FLIGHT_DEFAULT;
    if (!Number.isInteger(inFlight) || inFlight < 1 || inFlight > PARTS_IN_FLIGHT_MAX) {
      throw new PgarkError('storage-config-invalid', `${inFlight} parts in flight are not possible`, {
        hint: `choose 1 to ${PARTS_IN_FLIGHT_MAX}`,
      });
    }
    const prefix = (options.prefix ?? '').replace(/^\/+|\/+$/gu, '');
    if (prefix !== '') assertKeyPrefix(`${prefix}/`);
    this.#options = options;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.location = `s3://${options.bucket}${prefix === '' ? '' : `/${prefix}`}`;
    this.#connection = connectS3(options);
    this.#facts = providerFacts(this.#connection.endpointHost, options.provider);
    this.#bufferBytesMax = options.bufferBytesMax ?? BUFFER_BYTES_MAX_DEFAULT;
    this.#sharedBuffers = new BufferPool(this.#bufferBytesMax * SHARED_SHARE, SHARED_KEEP_MS);
    const { bucket, clock, random, logger, beforeResending } = options;
    const policy = { ...defaultRetryPolicy, ...options.retry };
    this.#calls = new S3Calls(this.#connection, { bucket, policy, clock, random, logger, beforeResending });
  }

  async putSmall(key: ObjectKey, body: Uint8Array, options: PutSmallOptions = {}): Promise<ObjectInfo> {
    assertKey(key);
    const { condition, contentType, isLasting = false, signal } = options;
    assert(body.byteLength <= SMALL_OBJECT_BYTES_MAX, `a small object has at most ${SMALL_OBJECT_BYTES_MAX} bytes`);
    const profile = condition === undefined ? undefined : await this.#profile(signal);
    const supported = profile === undefined || condition === undefined || keepsCondition(profile, condition);
    if (!supported) await this.#checkCondition(key, condition, signal);
    const stored = await putObject(this.#calls, {
      key: this.#prefix + key,
      body,
      condition: supported ? condition : undefined,
      ifMatchStyle: profile?.ifMatchStyle ?? 'quoted',
      contentType,
      lock: isLasting ? this.#options.objectLock : undefined,
      signal,
    });
    this.#bucketSeen = true;
    const modified = this.#connection.storeClock.latest ?? this.#options.clock.now();
    return { key, bytes: body.byteLength, modified, etag: stored.etag };
  }

  async putStream(key: ObjectKey, body: ByteStream, options: PutStreamOptions = {}): Promise<StoredObject> {
    assertKey(key);
    const profile = await this.#profile(options.signal);
    const isShared = (options.putsAtOnce ?? 1) > 1;
    const plan = planParts({
      limits: profile,
      partBytes: this.#options.partBytes ?? PART_BYTES_DEFAULT,
      bytesEstimateMax: options.bytesEstimateMax,
      partsInFlight: this.#options.partsInFlight ?? PARTS_IN_FLIGHT_DEFAULT,
      bufferBytesMax: this.#bufferBytesMax * (isShared ? SHARED_SHARE : 1),
      isShared,
    });
    const doubt = plan.foresee();
    if (doubt !== undefined) this.#options.logger.warning('storage.parts_may_not_do', doubt, { key });
    const pool = isShared ? this.#sharedBuffers : new BufferPool();
    const lock = this.#options.objectLock;
    const upload = { key, fullKey: this.#prefix + key, profile, plan, pool, lock, options };
    return pool.during(() => uploadStream(this.#calls, body, upload));
  }

  async get(key: ObjectKey, options: CallOptions & { readonly range?: ByteRange } = {}): Promise<ObjectBody> {
    assertKey(key);
    const { head, body } = await getObject(this.#calls, this.#prefix + key, options);
    return { info: infoOf(key, head), body };
  }

  async head(key: ObjectKey, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    assertKey(key);
    const head = await headObject(this.#calls, this.#prefix + key, options.signal);
    if (head === undefined && !this.#bucketSeen) await assertBucketExists(this.#calls, options.signal);
    this.#bucketSeen = true;
    return head && infoOf(key, head);
  }

  async *list(
    prefix: string,
    options: CallOptions & { readonly startAfter?: ObjectKey } = {},
  ): AsyncGenerator<ObjectInfo> {
    assertKeyPrefix(prefix);
    const startAfter = options.startAfter === undefined ? undefined : this.#prefix + options.startAfter;
    const listing = listObjects(this.#calls, this.#prefix + prefix, { startAfter, signal: options.signal });
    for await (const info of listing) yield { ...info, key: info.key.slice(this.#prefix.length) };
  }

  async delete(key: ObjectKey, options: CallOptions = {}): Promise<void> {
    assertKey(key);
    await deleteObject(this.#calls, this.#prefix + key, options.signal);
  }

  async *listUploads(prefix: string, options: CallOptions = {}): AsyncGenerator<UploadInfo> {
    assertKeyPrefix(prefix);
    for await (const { key, uploadId } of listUploads(this.#calls, this.#prefix + prefix, options.signal)) {
      yield { key: key.slice(this.#prefix.length), uploadId };
    }
  }

  async abortUpload(upload: UploadInfo, options: CallOptions = {}): Promise<void> {
    assertKey(upload.key);
    await abortUpload(this.#calls, { ...upload, key: this.#prefix + upload.key }, options.signal);
  }

  async now(options: CallOptions = {}): Promise<Date> {
    await assertBucketExists(this.#calls, options.signal);
    const { latest } = this.#connection.storeClock;
    if (latest === undefined) {
      throw new PgarkError('store-unsupported', `${this.#calls.host} answers without a Date, by which leases expire`);
    }
    return latest;
  }

  async probe(options: ProbeOptions = {}): Promise<ProviderProfile> {
    if (options.asKnown !== true || this.#probed === undefined) {
      await probeReach(this.#calls, this.#prefix, options.signal);
      this.#bucketSeen = true;
    }
    const { profile, deleteFailure } = await this.#probe(
      options.signal,
      options.write === true || options.delete === true,
    );
    if (options.delete === true && deleteFailure !== undefined) throw deleteFailure;
    const { conditionalWrites, partCountMax, partBytesMin, equalParts, partChecksum } = profile;
    const clockSkewMs = this.#connection.storeClock.skewMs ?? profile.clockSkewMs;
    const known = { conditionalWrites, partCountMax, partBytesMin, equalParts, partChecksum, clockSkewMs };
    const { objectLock: lock } = this.#options;
    const checksLock = lock !== undefined && options.write === true;
    if (options.protection !== true && !checksLock) return { ...known, ...(lock && { lock }) };
    const protection = await askProtection(this.#calls, options.signal);
    if (checksLock) assertLockable(this.#calls, protection);
    return { ...known, ...(lock && { lock }), ...(options.protection === true && { protection }) };
  }

  close(): Promise<void> {
    this.#connection.client.destroy();
    return Promise.resolve();
  }

  async #profile(signal: AbortSignal | undefined): Promise<S3Profile> {
    return (await this.#probe(signal, true)).profile;
  }

  /** Once for a store. Who may not write and does not have to is told what can be said without. */
  async #probe(signal: AbortSignal | undefined, write: boolean): Promise<ProbeResult> {
    signal?.throwIfAborted();
    if (this.#probed !== undefined) return this.#probed;
    try {
      const staleMs = this.#options.probeStaleMs ?? PROBE_STALE_MS;
      this.#probed = await probeWrites(this.#calls, this.#facts, { prefix: this.#prefix, staleMs, signal });
      return this.#probed;
    } catch (error) {
      if (write || !isPgarkError(error, 'store-access-denied')) throw error;
      return { profile: cautiousProfile(this.#calls, this.#facts), deleteFailure: undefined };
    }
  }

  /** For stores that ignore the condition: better than nothing, and `conditionalWrites` says that it is no more. */
  async #checkCondition(key: ObjectKey, condition: WriteCondition, signal: AbortSignal | undefined): Promise<void> {
    const head = await headObject(this.#calls, this.#prefix + key, signal);
    const holds = 'ifAbsent' in condition ? head === undefined : head?.etag === condition.ifMatch;
    if (!holds) throw new PgarkError('store-condition-failed', `${key} is not as expected`);
  }
}

function keepsCondition(profile: S3Profile, condition: WriteCondition): boolean {
  return 'ifAbsent' in condition ? profile.createsIfAbsent : profile.ifMatchStyle !== undefined;
}
