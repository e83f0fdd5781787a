import { CreateMultipartUploadCommand, type CreateMultipartUploadCommandOutput } from '@aws-sdk/client-s3';
import type { ByteStream } from '../../common/bytes.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import type { PutStreamOptions, StoredObject } from '../object-store.ts';
import { abandonUnanswered, abandonUpload, removeOwnObject } from './abandon.ts';
import { BodySource } from './body-source.ts';
import { BufferPool } from './buffer-pool.ts';
import { linkedAbort, type S3Calls, type Send } from './calls.ts';
import { assertAbsent, completeUpload, objectExists } from './complete.ts';
import { isAmbiguous } from './failures.ts';
import type { PartPlan } from './part-plan.ts';
import { type OpenUpload, type SentPart, sendPart } from './parts.ts';
import type { S3Profile } from './profile.ts';
import { headObject, putObject } from './small-objects.ts';
import { crc32Base64, encodeMetadata, md5Hex, newWriteId, WRITE_ID } from './wire.ts';

export interface StreamUpload {
  /** Full key in the bucket. */
  readonly fullKey: string;
  /** The key as the caller knows it. */
  readonly key: string;
  readonly profile: S3Profile;
  readonly plan: PartPlan;
  readonly options: PutStreamOptions;
}

/** Streams a body into one object: in one request if it fits into the first part, else in parts. */
export async function uploadStream(calls: S3Calls, body: ByteStream, upload: StreamUpload): Promise<StoredObject> {
  const { controller, unlink } = linkedAbort(upload.options.signal);
  const { signal } = controller;
  const source = new BodySource(body, signal);
  const pool = new BufferPool();
  try {
    await assertAbsent(calls, upload.fullKey, signal);
    const first = await pool.take(upload.plan.partBytes(1), 1);
    const filled = await source.read(first);
    if (await source.atEnd()) {
      const stored = await putWhole(calls, first.subarray(0, filled), upload, signal);
      pool.give(first);
      pool.free();
      return stored;
    }
    const parts = new PartwiseUpload(calls, upload, { source, pool, controller });
    const stored = await parts.run(first);
    // Only now is it sure that nothing sends from them any more.
    pool.free();
    return stored;
  } finally {
    unlink();
    await source.close();
  }
}

async function putWhole(
  calls: S3Calls,
  bytes: Uint8Array,
  upload: StreamUpload,
  signal: AbortSignal,
): Promise<StoredObject> {
  const { fullKey, profile, options } = upload;
  const crc32 = profile.partChecksum === 'crc32' ? crc32Base64(bytes) : undefined;
  if (!profile.createsIfAbsent) await assertAbsent(calls, fullKey, signal);
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
      signal,
    });
    const head = await headObject(calls, fullKey, signal);
    const damage =
      head?.bytes !== bytes.byteLength ||
      (profile.etagIsMd5 && stored.etag !== md5Hex(bytes)) ||
      (stored.crc32 !== undefined && stored.crc32 !== crc32);
    if (damage) throw new PgarkError('store-integrity', `${upload.key} is not what was sent, and was removed`);
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
  readonly #pool: BufferPool;
  readonly #controller: AbortController;
  readonly #sent: SentPart[] = [];
  readonly #inFlight = new Set<Promise<void>>();
  #bytesRead = 0;
  #bytesStored = 0;

  constructor(
    calls: S3Calls,
    upload: StreamUpload,
    parts: { readonly source: BodySource; readonly pool: BufferPool; readonly controller: AbortController },
  ) {
    this.#calls = calls;
    this.#upload = upload;
    this.#source = parts.source;
    this.#pool = parts.pool;
    this.#controller = parts.controller;
  }

  async run(first: Buffer): Promise<StoredObject> {
    const { profile, key } = this.#upload;
    const open = await this.#open();
    try {
      await this.#upload.options.onUploadOpened?.({ key, uploadId: open.uploadId });
      await this.#sendAll(open, first);
    } catch (error) {
      // What is on its way is cut off, and has settled before the abort: nothing may arrive after it.
      this.#controller.abort(error);
      await Promise.allSettled(this.#inFlight);
      await abandonUpload(this.#calls, open);
      throw error;
    }
    const parts = this.#sent.toSorted((a, b) => a.PartNumber - b.PartNumber);
    const bytes = this.#bytesRead;
    const head = await completeUpload(this.#calls, open, parts, { profile, bytes, signal: this.#controller.signal });
    return { key, bytes, etag: head.etag, partCount: parts.length, confirmedBy: profile.partChecksum };
  }

  async #open(): Promise<OpenUpload> {
    const calls = this.#calls;
    const { fullKey, profile, options } = this.#upload;
    const writeId = newWriteId(calls.random);
    const request = { action: 's3:PutObject', key: fullKey, signal: this.#controller.signal } as const;
    const input = {
      Bucket: calls.bucket,
      Key: fullKey,
      Metadata: { ...encodeMetadata(options.metadata ?? {}), [WRITE_ID]: writeId },
      ...(options.contentType === undefined ? {} : { ContentType: options.contentType }),
      ...(profile.partChecksum === 'crc32' ? { ChecksumAlgorithm: 'CRC32' as const } : {}),
    };
    // The HEAD that looked whether the name is free has told the store's time.
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

  async #sendAll(open: OpenUpload, first: Buffer): Promise<void> {
    const { plan } = this.#upload;
    const { signal } = this.#controller;
    this.#start(open, 1, first, first.byteLength);
    for (let partNumber = 2; !(await this.#source.atEnd()); partNumber += 1) {
      const partBytes = plan.partBytes(partNumber);
      const inFlightMax = plan.partsInFlight(partBytes);
      // One buffer more than may be in flight: it is filled meanwhile.
      const buffer = await this.#pool.take(partBytes, inFlightMax + 1);
      signal.throwIfAborted();
      const bytes = await this.#source.read(buffer);
      while (this.#inFlight.size >= inFlightMax) await Promise.race(this.#inFlight);
      signal.throwIfAborted();
      this.#start(open, partNumber, buffer, bytes);
    }
    await Promise.all(this.#inFlight);
    signal.throwIfAborted();
  }

  /** Sends a part in the background. Its failure aborts the upload, which ends whatever waits. */
  #start(open: OpenUpload, partNumber: number, buffer: Buffer, bytes: number): void {
    const { signal } = this.#controller;
    this.#bytesRead += bytes;
    const checksum = this.#upload.profile.partChecksum;
    const sending = sendPart(this.#calls, open, { partNumber, bytes: buffer.subarray(0, bytes), checksum, signal })
      .then((part) => {
        this.#sent.push(part);
        this.#bytesStored += bytes;
        this.#upload.options.onBytesStored?.(this.#bytesStored);
      })
      .catch((error: unknown) => this.#controller.abort(error))
      .finally(() => {
        this.#pool.give(buffer);
        this.#inFlight.delete(sending);
      });
    this.#inFlight.add(sending);
  }
}
