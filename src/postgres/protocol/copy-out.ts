import { BlockQueue } from '../../common/block-queue.ts';
import type { ByteStream } from '../../common/bytes.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import { leftAtOnce } from '../../common/left-at-once.ts';
import type { Answer, Converse } from './conversation.ts';
import { CopyAnswer } from './copy-answer.ts';

export interface CopyOutOptions {
  /** Ends the stream with its reason, and the session with it. */
  readonly signal?: AbortSignal | undefined;
  /** Told of the bytes of content of every chunk as it comes, long before its block is full. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

export interface CopyOut {
  /**
   * The rows, in blocks of 1 MiB up to the last (`allocateBlock`: each is the consumer's, whose last holder may release
   * it). The statement is sent when the first block is asked for. While the consumer has enough the server is held up:
   * memory is bounded, whatever the length of rows and table. Read it once.
   *
   * A stream that ends without throwing is complete: the server has said that the COPY is, has counted as many rows as
   * have come, and is ready for the next query. Throws the server's error, after which the session can be used if its
   * connection lives. A stream that is left early, or aborted, ends the connection at once, which is the only bounded way:
   * the server gives up when it next writes to it, and rolls back.
   */
  readonly stream: ByteStream;
  /** How many rows there were; known once the stream has ended. */
  readonly rows: () => number;
}

/** Reads a `COPY … TO STDOUT` in text format without HEADER: the server sends a message for each row. */
export function copyOut(start: Converse, options: CopyOutOptions): CopyOut {
  let rows: number | undefined;
  const read = async function* (signal: AbortSignal): ByteStream {
    rows = yield* readRows(start, signal, options.onBytes);
  };
  return {
    stream: leftAtOnce(read, options.signal),
    rows: () => {
      assert(rows !== undefined, 'rows are known at the end');
      return rows;
    },
  };
}

async function* readRows(
  start: Converse,
  signal: AbortSignal,
  onBytes: ((bytes: number) => void) | undefined,
): AsyncGenerator<Uint8Array, number> {
  signal.throwIfAborted();
  const queue = new BlockQueue({ pause: () => conversation.pause(), resume: () => conversation.resume() });
  const answer = new Rows(queue, onBytes);
  const conversation = await start(answer);
  const leave = (): void => conversation.destroy(signal.reason);
  if (signal.aborted) leave();
  else signal.addEventListener('abort', leave, { once: true });
  conversation.ended.then(
    () => queue.end(),
    (error) => queue.fail(error),
  );
  try {
    for (;;) {
      const block = await queue.next();
      signal.throwIfAborted();
      if (block === undefined) return answer.count();
      yield block;
    }
  } finally {
    signal.removeEventListener('abort', leave);
    conversation.destroy(new Error('the rows are not read any more'));
  }
}

class Rows implements Answer {
  readonly #queue: BlockQueue;
  readonly #onBytes: ((bytes: number) => void) | undefined;
  readonly #answer = new CopyAnswer('out');
  #rows = 0;
  #chunkBytes = 0;

  constructor(queue: BlockQueue, onBytes: ((bytes: number) => void) | undefined) {
    this.#queue = queue;
    this.#onBytes = onBytes;
  }

  copyData(chunk: DataView, start: number, end: number, begins: boolean): void {
    if (begins) this.#rows += 1;
    this.#chunkBytes += end - start;
    this.#queue.append(chunk, start, end);
  }

  copyMessages(contents: DataView, start: number, end: number, count: number): void {
    this.#rows += count;
    this.#chunkBytes += end - start;
    this.#queue.append(contents, start, end);
  }

  chunkRead(): void {
    if (this.#chunkBytes > 0) this.#onBytes?.(this.#chunkBytes);
    this.#chunkBytes = 0;
  }

  message(type: number, frame: Buffer): void {
    this.#answer.message(type, frame);
    const { rows } = this.#answer;
    if (rows === undefined || rows === this.#rows) return;
    throw new PgarkError('postgres-failed', `the server has copied ${rows} rows, but ${this.#rows} have come`, {
      hint: 'something between here and the server changes what it passes on; see whether a proxy or a pooler is there',
    });
  }

  count(): number {
    assert(this.#answer.rows !== undefined, 'the server is ready after the end of the COPY');
    return this.#rows;
  }
}
