import { CreateMultipartUploadCommand, type CreateMultipartUploadCommandOutput } from '@aws-sdk/client-s3';
import type { ByteStream } from '../../common/bytes.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import type { ObjectLock, PutStreamOptions, StoredObject } from '../object-store.ts';
import { abandonUnanswered, abandonUpload, removeOwnObject } from './abandon.ts';
import { BodySource } from './body-source.ts';
import type { BufferPool } from './buffer-pool.ts';
import { ANSWER_MS, linkedAbort, patientAbort, type S3Calls, type Send } from './calls.ts';
import { assertAbsent, completeUpload, objectExists } from './complete.ts';
import { ensureLock } from './ensure-lock.ts';
import { isAmbiguous } from './failures.ts';
import { lockInput } from './lock.ts';
import type { PartPlan } from './part-plan.ts';
import { type OpenUpload, type SentPart, sendPart } from './parts.ts';
import type { S3Profile } from './profile.ts';
import { headObject, putObject } from './small-objects.ts';
import { encodeMetadata, md5Hex, newWriteId, PartDigest, WRITE_ID } from './wire.ts';

export interface StreamUpload {
  /** Full key in the bucket. */
  readonly fullKey: string;
  /** The key as the caller knows it. */
  readonly key: string;
  readonly profile: S3Profile;
  readonly plan: PartPlan;
  readonly pool: BufferPool;
  readonly lock: ObjectLock | undefined;
  readonly options: PutStreamOptions;
}

/** Streams a body into one object: in one request if it fits into the first part, else in parts. */
export async function uploadStream(calls: S3Calls, body: ByteStream, upload: StreamUpload): Promise<StoredObject> {
  const { controller, unlink } = linkedAbort(upload.options.signal);
  const source = new BodySource(body, controller.signal);
  try {
    if (upload.options.nameIsFree !== true) await assertAbsent(calls, upload.fullKey, controller.signal);
    const first = await readPart(calls, upload, { source, partNumber: 1, signal: controller.signal });
    if (await isWhole(source, first, upload.pool)) return await putWhole(calls, first, upload, controller.signal);
    return await new PartwiseUpload(calls, upload, { source, controller }).run(first);
  } finally {
    unlink();
    await source.close();
  }
}

/** What was read of a body, and the memory that it lies in. */
interface ReadPart {
  readonly partNumber: number;
  readonly buffer: Buffer;
  readonly bytes: number;
  readonly digest: PartDigest;
}

async function readPart(
  calls: S3Calls,
  { plan, pool }: StreamUpload,
  from: { readonly source: BodySource; readonly partNumber: number; readonly signal: AbortSignal },
): Promise<ReadPart> {
  const { source, partNumber, signal } = from;
  const digest = new PartDigest(calls.signsBodies);
  const buffer = await pool.take(plan.partBytes(partNumber), signal);
  try {
    return { partNumber, buffer, bytes: await source.read(buffer, (piece) => digest.update(piece)), digest };
  } catch (error) {
    pool.drop(buffer);
    throw error;
  }
}

/** Whether the first part is all there is. */
async function isWhole(source: BodySource, { buffer }: ReadPart, pool: BufferPool): Promise<boolean> {
  try {
    return await source.atEnd();
  } catch (error) {
    pool.drop(buffer);
    throw error;
  }
}

function contentOf({ buffer, bytes }: ReadPart): Uint8Array {
  return buffer.subarray(0, bytes);
}

async function putWhole(
  calls: S3Calls,
  part: ReadPart,
  upload: StreamUpload,
  signal: AbortSignal,
): Promise<StoredObject> {
  try {
    const stored = await putOnce(calls, part, upload, signal);
    upload.pool.give(part.buffer);
    return stored;
  } catch (error) {
    upload.pool.drop(part.buffer);
    throw error;
  }
}

async function putOnce(
  calls: S3Calls,
  part: ReadPart,
  upload: StreamUpload,
  signal: AbortSignal,
): Promise<StoredObject> {
  const { fullKey, profile, options } = upload;
  const bytes = contentOf(part);
  const crc32 = profile.partChecksum === 'crc32' ? part.digest.crc32Base64 : undefined;
  if (!profile.createsIfAbsent && options.nameIsFree !== true) await assertAbsent(calls, fullKey, signal);
  const writeId = newWriteId(calls.random);
  try {
    const stored = await putObject(calls, {
      key: fullKey,
      body: bytes,
      condition: profile.createsIfAbsent ? { ifAbsent: true } : undefined,
      ifMatchStyle: 'quoted',
      contentType: options.contentType,
      metadata: options.metadata,
      writeId,
      crc32,
      lock: upload.lock,
      signal,
    });
    const head = await headObject(calls, fullKey, signal);
    const damage =
      head?.bytes !== bytes.byteLength ||
      (profile.etagIsMd5 && stored.etag !== md5Hex(bytes)) ||
      (stored.crc32 !== undefined && stored.crc32 !== crc32);
    if (damage) throw new PgarkError('store-integrity', `${upload.key} is not what was sent, and was removed`);
    await ensureLock(calls, { key: fullKey, writeId, head }, upload.lock, signal);
    options.onBytesStored?.(bytes.byteLength);
    const { key } = upload;
    return { key, bytes: bytes.byteLength, etag: head.etag, partCount: 1, confirmedBy: profile.partChecksum };
  } catch (error) {
    if (isPgarkError(error, 'store-condition-failed')) throw objectExists(calls, fullKey);
    if (signal.aborted || mayHaveWritten(error)) await removeOwnObject(calls, fullKey, writeId);
    throw error;
  }
}

/** Whether the request may have been carried out although it failed: the store has not refused it. */
function mayHaveWritten(error: unknown): boolean {
  return !isPgarkError(error) || error.code === 'store-integrity' || error.code === 'store-unreachable';
}

/** One multipart upload, from its opening to its end. */
class PartwiseUpload {
  readonly #calls: S3Calls;
  readonly #upload: StreamUpload;
  readonly #source: BodySource;
  readonly #controller: AbortController;
  readonly #sent: SentPart[] = [];
  readonly #inFlight = new Set<Promise<void>>();
  #bytesRead = 0;
  #bytesStored = 0;

  constructor(
    calls: S3Calls,
    upload: StreamUpload,
    stream: { readonly source: BodySource; readonly controller: AbortController },
  ) {
    this.#calls = calls;
    this.#upload = upload;
    this.#source = stream.source;
    this.#controller = stream.controller;
  }

  async run(first: ReadPart): Promise<StoredObject> {
    const { profile, key } = this.#upload;
    const opening = this.#begin();
    try {
      await this.#sendAll(opening, first);
    } catch (error) {
      // What is on its way is cut off, and has settled before the abort: nothing may arrive after it.
      this.#controller.abort(error);
      await Promise.allSettled(this.#inFlight);
      // An opening that failed has left nothing.
      const open = await opening.catch(() => undefined);
      if (open !== undefined) await abandonUpload(this.#calls, open);
      throw error;
    }
    const open = await opening;
    const parts = this.#sent.toSorted((a, b) => a.PartNumber - b.PartNumber);
    const bytes = this.#bytesRead;
    const { signal } = this.#controller;
    const head = await completeUpload(this.#calls, open, parts, { profile, bytes, signal });
    await ensureLock(this.#calls, { ...open, head }, this.#upload.lock, signal);
    return { key, bytes, etag: head.etag, partCount: parts.length, confirmedBy: profile.partChecksum };
  }

  /** Opens the upload and says so. The body is read on meanwhile. */
  async #begin(): Promise<OpenUpload> {
    const { key, options } = this.#upload;
    const { signal } = this.#controller;
    const patience = patientAbort(signal, this.#calls.clock, ANSWER_MS);
    let open: OpenUpload;
    try {
      open = await this.#open(patience.signal);
    } finally {
      await patience.end();
    }
    try {
      signal.throwIfAborted();
      await options.onUploadOpened?.({ key, uploadId: open.uploadId });
    } catch (error) {
      await abandonUpload(this.#calls, open);
      throw error;
    }
    return open;
  }

  async #open(signal: AbortSignal): Promise<OpenUpload> {
    const calls = this.#calls;
    const { fullKey, profile, lock, options } = this.#upload;
    const writeId = newWriteId(calls.random);
    const request = { action: 's3:PutObject', key: fullKey, locks: lock !== undefined, signal } as const;
    const input = {
      Bucket: calls.bucket,
      Key: fullKey,
      Metadata: { ...encodeMetadata(options.metadata ?? {}), [WRITE_ID]: writeId },
      ...(options.contentType === undefined ? {} : { ContentType: options.contentType }),
      ...lockInput(lock, calls),
      ...(profile.partChecksum === 'crc32' ? { ChecksumAlgorithm: 'CRC32' as const } : {}),
    };
    // Some request before has told the store's time: the name was looked at, or the store probed.
    const since = calls.storeClock.latest ?? calls.clock.now();
    let doubtful = false;
    let uploadId: string | undefined;
    try {
      const send: Send<CreateMultipartUploadCommandOutput> = async (client, callOptions) => {
        try {
          return await client.send(new CreateMultipartUploadCommand(input), callOptions);
        } catch (error) {
          doubtful ||= isAmbiguous(error);
          throw error;
        }
      };
      ({ UploadId: uploadId } = await calls.run(request, send));
    } finally {
      if (doubtful) await abandonUnanswered(calls, { key: fullKey, since, usedId: uploadId });
    }
    if (uploadId === undefined) {
      throw new PgarkError('store-unsupported', `the store opened an upload of ${fullKey} and gave it no id`);
    }
    return { key: fullKey, uploadId, writeId };
  }

  async #sendAll(opening: Promise<OpenUpload>, first: ReadPart): Promise<void> {
    const { plan, pool } = this.#upload;
    const { signal } = this.#controller;
    this.#start(opening, first);
    for (let partNumber = 2; !(await this.#source.atEnd()); partNumber += 1) {
      const inFlightMax = plan.partsInFlight(plan.partBytes(partNumber));
      // One more than may be in flight: it is read meanwhile.
      while (this.#inFlight.size > inFlightMax) await Promise.race(this.#inFlight);
      const part = await readPart(this.#calls, this.#upload, { source: this.#source, partNumber, signal });
      while (this.#inFlight.size >= inFlightMax) await Promise.race(this.#inFlight);
      if (signal.aborted) pool.drop(part.buffer);
      signal.throwIfAborted();
      this.#start(opening, part);
    }
    await Promise.all(this.#inFlight);
    signal.throwIfAborted();
  }

  /** Sends a part in the background. Its failure aborts the upload, which ends whatever waits. */
  #start(opening: Promise<OpenUpload>, part: ReadPart): void {
    const { pool, options } = this.#upload;
    const { buffer, bytes } = part;
    this.#bytesRead += bytes;
    const sending = this.#send(opening, part)
      .then(
        (sent) => {
          pool.give(buffer);
          this.#sent.push(sent);
          this.#bytesStored += bytes;
          options.onBytesStored?.(this.#bytesStored);
        },
        (error: unknown) => {
          pool.drop(buffer);
          throw error;
        },
      )
      .catch((error: unknown) => this.#controller.abort(error))
      .finally(() => this.#inFlight.delete(sending));
    this.#inFlight.add(sending);
  }

  async #send(opening: Promise<OpenUpload>, part: ReadPart): Promise<SentPart> {
    const open = await opening;
    const { partNumber, digest } = part;
    const { partChecksum: checksum } = this.#upload.profile;
    const { signal } = this.#controller;
    return sendPart(this.#calls, open, { partNumber, bytes: contentOf(part), digest, checksum, signal });
  }
}
