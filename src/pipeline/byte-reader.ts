import { releaseBlock } from '../common/block-memory.ts';
import type { ByteStream } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import { reblock } from './blocks.ts';

/**
 * Reads a stream as one string of bytes: looks ahead as far as asked for, then takes. Errors of the source pass. Memory:
 * what was asked for and one block.
 */
export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #buffered: Uint8Array = new Uint8Array(0);

  constructor(source: ByteStream) {
    // Looking ahead joins chunks; with full blocks these are few, however small the source's own chunks.
    this.#source = reblock()(source)[Symbol.asyncIterator]();
  }

  /** What has been read and not yet taken. */
  get buffered(): Uint8Array {
    return this.#buffered;
  }

  /** Reads until `bytes` are buffered. False: the source ended before. */
  async fill(bytes: number): Promise<boolean> {
    if (this.#buffered.length >= bytes) return true;
    const pieces = [this.#buffered];
    let length = this.#buffered.length;
    while (length < bytes) {
      const next = await this.#source.next();
      if (next.done === true) break;
      pieces.push(next.value);
      length += next.value.length;
    }
    if (pieces.length > 1) {
      this.#buffered = Buffer.concat(pieces);
      for (const block of pieces.slice(1)) releaseBlock(block);
    }
    return length >= bytes;
  }

  /** Takes the first `bytes` of what is buffered, without copying. */
  take(bytes: number): Uint8Array {
    assert(bytes <= this.#buffered.length, 'only what is buffered can be taken');
    const taken = this.#buffered.subarray(0, bytes);
    this.#buffered = this.#buffered.subarray(bytes);
    return taken;
  }

  /** Ends the source's iteration. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }
}
