import { Readable } from 'node:stream';
import { GetObjectCommand, type GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { allocateBlock, freeChunk } from '../../common/block-memory.ts';
import { BLOCK_BYTES, type ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { retryDelayMs } from '../../common/retry.ts';
import { chunksOf } from '../../common/stream-chunks.ts';
import { YoungGarbage } from '../../common/young-garbage.ts';
import type { ByteRange } from '../object-store.ts';
import { linkedAbort, type S3Calls } from './calls.ts';
import { failureOf, isTransient, notS3 } from './failures.ts';
import { headObject, type ObjectHead } from './small-objects.ts';
import { bareEtag, decodeMetadata, quotedEtag, WRITE_ID } from './wire.ts';

export interface OpenedObject {
  readonly head: ObjectHead;
  readonly body: ByteStream;
}

interface GetOptions {
  readonly range?: ByteRange | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A response whose body is still to be read. */
interface Connection {
  readonly output: GetObjectCommandOutput;
  readonly stream: Readable;
  /** Frees the socket, in the middle of the body too. */
  close(): void;
}

/**
 * GetObject, resumed by range and bound to the same etag whenever the connection is lost in mid-body. Short bodies are
 * read at once, so that nobody holds a connection by not reading them.
 */
export async function getObject(calls: S3Calls, key: string, options: GetOptions): Promise<OpenedObject> {
  const request = { action: 's3:GetObject', key, signal: options.signal } as const;
  return calls.wording(request, async () => {
    let first: Connection;
    try {
      first = await calls.retrying(request, () => open(calls, key, options.signal, options.range));
    } catch (error) {
      if (options.range === undefined || failureOf(error).status !== 416) throw error;
      return emptyRange(calls, key, options.signal, error);
    }
    if (options.range !== undefined && first.output.ContentRange === undefined) {
      first.close();
      throw new PgarkError('store-unsupported', `the store does not read ranges: it gave the whole of ${key}`);
    }
    if (first.output.ETag === undefined) {
      first.close();
      throw notS3(calls.host, `it gave ${key} without an ETag`);
    }
    const head = headOf(first.output);
    const start = options.range?.start ?? 0;
    const end = Math.min(options.range?.end ?? Number.POSITIVE_INFINITY, head.bytes - 1);
    const body = new ResumedBody(calls, { key, etag: head.etag, start, end, signal: options.signal }, first);
    const bytes = end - start + 1;
    return { head, body: bytes > BLOCK_BYTES ? body.blocks() : blocksOf(await collect(body.blocks())) };
  });
}

/** The range begins where the object ends, or beyond: nothing to read, but the object is there. */
async function emptyRange(
  calls: S3Calls,
  key: string,
  signal: AbortSignal | undefined,
  error: unknown,
): Promise<OpenedObject> {
  const head = await headObject(calls, key, signal);
  if (head === undefined) throw error;
  return { head, body: blocksOf([]) };
}

async function* blocksOf(blocks: readonly Uint8Array[]): ByteStream {
  yield* blocks;
}

async function collect(body: ByteStream): Promise<Uint8Array[]> {
  const blocks: Uint8Array[] = [];
  for await (const block of body) blocks.push(block);
  return blocks;
}

async function open(
  calls: S3Calls,
  key: string,
  signal: AbortSignal | undefined,
  range: ByteRange | undefined,
  etag?: string,
): Promise<Connection> {
  signal?.throwIfAborted();
  const { controller, unlink } = linkedAbort(signal);
  const close = (): void => {
    unlink();
    controller.abort();
  };
  try {
    const output = await calls.client.send(
      new GetObjectCommand({
        Bucket: calls.bucket,
        Key: key,
        ...(range === undefined ? {} : { Range: `bytes=${range.start}-${range.end ?? ''}` }),
        ...(etag === undefined ? {} : { IfMatch: quotedEtag(etag) }),
      }),
      { abortSignal: controller.signal },
    );
    const stream = output.Body;
    if (!(stream instanceof Readable)) throw new PgarkError('internal', 'the SDK gave a body that is no stream');
    // A body that nobody reads may fail unseen; whoever reads it gets the error from the iteration.
    stream.on('error', () => {});
    return { output, stream, close };
  } catch (error) {
    close();
    signal?.throwIfAborted();
    throw error;
  }
}

function headOf(output: GetObjectCommandOutput): ObjectHead {
  const total = /\/(\d+)$/u.exec(output.ContentRange ?? '')?.[1];
  return {
    bytes: total === undefined ? (output.ContentLength ?? 0) : Number(total),
    etag: bareEtag(output.ETag),
    modified: output.LastModified ?? new Date(0),
    metadata: decodeMetadata(output.Metadata),
    writeId: output.Metadata?.[WRITE_ID],
  };
}

/** Each chunk of a body is a copy of what came from the socket, which only the garbage collector can free. */
const socketGarbage = new YoungGarbage();

class ResumedBody {
  readonly #calls: S3Calls;
  readonly #key: string;
  readonly #etag: string;
  readonly #end: number;
  readonly #signal: AbortSignal | undefined;
  #position: number;
  #connection: Connection | undefined;
  #block: Uint8Array;
  #filled = 0;
  /** Failures since the last byte that arrived. */
  #failures = 0;

  constructor(
    calls: S3Calls,
    part: {
      readonly key: string;
      readonly etag: string;
      readonly start: number;
      readonly end: number;
      readonly signal: AbortSignal | undefined;
    },
    first: Connection,
  ) {
    this.#calls = calls;
    this.#key = part.key;
    this.#etag = part.etag;
    this.#position = part.start;
    this.#end = part.end;
    this.#signal = part.signal;
    this.#connection = first;
    this.#block = this.#newBlock();
  }

  async *blocks(): ByteStream {
    const request = { action: 's3:GetObject', key: this.#key, signal: this.#signal } as const;
    try {
      while (this.#position <= this.#end) {
        try {
          this.#connection ??= await this.#reopen();
          for await (const chunk of chunksOf(this.#connection.stream)) {
            const { length } = chunk;
            yield* this.#pack(chunk);
            freeChunk(chunk);
            socketGarbage.add(length);
          }
          this.#signal?.throwIfAborted();
          if (this.#position <= this.#end) throw new PrematureEnd();
        } catch (error) {
          this.#signal?.throwIfAborted();
          await this.#afterFailure(error);
        }
      }
    } catch (error) {
      this.#signal?.throwIfAborted();
      throw this.#calls.errorOf(error, request);
    } finally {
      this.#connection?.close();
    }
  }

  /** Copies a chunk into blocks of the usual size, which are passed on as they become full. */
  *#pack(chunk: Uint8Array): Generator<Uint8Array> {
    this.#signal?.throwIfAborted();
    this.#failures = 0;
    let rest = chunk;
    while (rest.byteLength > 0) {
      if (this.#position > this.#end) {
        throw new PgarkError('corrupt', `${this.#key} gave more bytes than the store had announced`);
      }
      const taken = rest.subarray(0, this.#block.byteLength - this.#filled);
      this.#block.set(taken, this.#filled);
      this.#filled += taken.byteLength;
      this.#position += taken.byteLength;
      rest = rest.subarray(taken.byteLength);
      if (this.#filled === this.#block.byteLength) {
        const full = this.#block;
        this.#block = this.#newBlock();
        this.#filled = 0;
        yield full;
        this.#signal?.throwIfAborted();
      }
    }
  }

  /** What was yielded belongs to the consumer, and is not used any more. */
  #newBlock(): Uint8Array {
    return allocateBlock(Math.max(0, Math.min(BLOCK_BYTES, this.#end - this.#position + 1)));
  }

  async #afterFailure(error: unknown): Promise<void> {
    this.#connection?.close();
    this.#connection = undefined;
    this.#failures += 1;
    const { policy, random, clock, logger } = this.#calls;
    if (!(error instanceof PrematureEnd || isTransient(error)) || this.#failures > policy.retriesMax) throw error;
    const delayMs = retryDelayMs(policy, this.#failures, random);
    logger.warning('store.read-resumed', `reading ${this.#key} was cut off, going on at byte ${this.#position}`, {
      key: this.#key,
      position: this.#position,
      storeCode: failureOf(error).code,
      delayMs,
    });
    await clock.sleep(delayMs, this.#signal);
  }

  async #reopen(): Promise<Connection> {
    const range = { start: this.#position, end: this.#end };
    const connection = await open(this.#calls, this.#key, this.#signal, range, this.#etag);
    if (!connection.output.ContentRange?.startsWith(`bytes ${range.start}-`)) {
      connection.close();
      throw new PgarkError('store-unsupported', `the store does not resume ${this.#key} at byte ${range.start}`);
    }
    return connection;
  }
}

/** The body ended without an error, yet short of its announced length. */
class PrematureEnd extends Error {
  readonly code = 'ERR_STREAM_PREMATURE_CLOSE';

  constructor() {
    super('the connection ended before the object did');
  }
}
