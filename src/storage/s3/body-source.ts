import { releaseBlock } from '../../common/block-memory.ts';
import type { ByteStream } from '../../common/bytes.ts';

const nothing = new Uint8Array();

/**
 * Reads a stream into buffers of any size. An abort of the signal ends a read at once, even while the stream gives
 * nothing; what the stream throws is rethrown as it is.
 */
export class BodySource {
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #signal: AbortSignal;
  /** The block that is being read. */
  #block: Uint8Array = nothing;
  /** What of it was not taken yet. */
  #rest: Uint8Array = nothing;
  #pending = false;
  #ended = false;

  constructor(body: ByteStream, signal: AbortSignal) {
    this.#iterator = body[Symbol.asyncIterator]();
    this.#signal = signal;
  }

  /** Bytes copied into the buffer: all that it takes, fewer only at the stream's end. Each piece is shown to `onPiece`. */
  async read(buffer: Uint8Array, onPiece: (piece: Uint8Array) => void = () => {}): Promise<number> {
    let filled = 0;
    while (filled < buffer.byteLength && !(await this.atEnd())) {
      const taken = this.#rest.subarray(0, buffer.byteLength - filled);
      buffer.set(taken, filled);
      onPiece(taken);
      filled += taken.byteLength;
      this.#rest = this.#rest.subarray(taken.byteLength);
      if (this.#rest.byteLength === 0) releaseBlock(this.#block);
    }
    return filled;
  }

  /** Whether no more bytes follow. Reads ahead one block to know. */
  async atEnd(): Promise<boolean> {
    while (this.#rest.byteLength === 0 && !this.#ended) {
      const step = await this.#next();
      if (step.done === true) this.#ended = true;
      else {
        this.#block = step.value;
        this.#rest = step.value;
      }
    }
    return this.#rest.byteLength === 0;
  }

  /** Tells the stream to end, if it has not. One that is in the middle of a read is not waited for. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    // What a stream says while it is being given up changes nothing.
    const closing = Promise.resolve(this.#iterator.return?.()).catch(() => {});
    if (!this.#pending) await closing;
  }

  async #next(): Promise<IteratorResult<Uint8Array>> {
    const signal = this.#signal;
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<Uint8Array>>();
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    this.#pending = true;
    this.#iterator
      .next()
      .then(resolve, (error: unknown) => {
        this.#ended = true;
        reject(error);
      })
      .finally(() => {
        this.#pending = false;
        signal.removeEventListener('abort', onAbort);
      })
      .catch(() => {});
    return promise;
  }
}
