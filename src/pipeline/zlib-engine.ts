import type { Transform as NodeTransform } from 'node:stream';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { BLOCK_BYTES } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import { asCorrupt } from './corrupt.ts';
import { WINDOW_LOG_MAX } from './zstd-format.ts';

/**
 * One of Node's streaming decompressors, driven chunk by chunk instead of by `pipe`: the next input is asked for only
 * when all output of the last one was taken, memory is one input and one output block, and at no time does anything
 * run in the background that an early end would have to wait for. `destroy` must be called in the end.
 */
export class ZlibEngine {
  readonly #stream: NodeTransform & { readonly bytesWritten: number };
  readonly #format: 'gzip' | 'zstd';
  #failure: { readonly error: unknown } | undefined;
  #ended = false;
  #wake: () => void = () => undefined;

  constructor(format: 'gzip' | 'zstd') {
    this.#format = format;
    const options = { chunkSize: BLOCK_BYTES };
    this.#stream =
      format === 'gzip'
        ? createGunzip(options)
        : createZstdDecompress({ ...options, params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX } });
    this.#stream.on('error', (error) => this.#fail(error));
    this.#stream.on('end', () => {
      this.#ended = true;
      this.#wake();
    });
    this.#stream.on('readable', () => this.#wake());
  }

  /** Bytes of the input that belonged to compressed data. Less than what was written: the data had ended before. */
  get bytesConsumed(): number {
    return this.#stream.bytesWritten;
  }

  /** Gives in one chunk and yields what comes of it, in blocks of 1 MiB at the most. Throws `corrupt`. */
  async *write(chunk: Uint8Array): AsyncGenerator<Uint8Array> {
    let written = false;
    this.#stream.write(chunk, (error) => {
      written = true;
      if (error) this.#fail(error);
      this.#wake();
    });
    yield* this.#outputUntil(() => written);
  }

  /** Yields the rest. Throws `corrupt` if the input was not complete. */
  async *end(): AsyncGenerator<Uint8Array> {
    this.#stream.end();
    yield* this.#outputUntil(() => this.#ended);
  }

  /** Frees the native memory. */
  destroy(): void {
    this.#stream.destroy();
  }

  async *#outputUntil(settled: () => boolean): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.#failure !== undefined) throw asCorrupt(this.#format, this.#failure.error);
      const block: unknown = this.#stream.read();
      if (block !== null) {
        assert(block instanceof Uint8Array, 'a decompressor gives bytes');
        yield block;
      } else if (settled()) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake();
  }
}
