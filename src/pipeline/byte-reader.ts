import { allocateBlock, releaseBlock } from '../common/block-memory.ts';
import type { ByteStream } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import { reblock } from './blocks.ts';

/** A block that is read, and for how many it stays: what was taken of it, and the reader while some of it is left. */
interface HeldBlock {
  readonly block: Uint8Array;
  holders: number;
}

/**
 * Reads a stream as one string of bytes: looks ahead as far as asked for, then takes. Errors of the source pass. Memory:
 * what was asked for and one block, and the blocks of what was taken and not released.
 */
export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #taken = new WeakMap<Uint8Array, HeldBlock>();
  #held: HeldBlock = holding(new Uint8Array(0));
  #buffered: Uint8Array = this.#held.block;

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
    const blocks: Uint8Array[] = [];
    let length = this.#buffered.length;
    while (length < bytes) {
      const next = await this.#source.next();
      if (next.done === true) break;
      blocks.push(next.value);
      length += next.value.length;
    }
    if (blocks.length > 0) this.#append(blocks, length);
    return length >= bytes;
  }

  /** Takes the first `bytes` of what is buffered, without copying. They stay until they are released. */
  take(bytes: number): Uint8Array {
    assert(bytes <= this.#buffered.length, 'only what is buffered can be taken');
    const taken = this.#buffered.subarray(0, bytes);
    this.#buffered = this.#buffered.subarray(bytes);
    this.#held.holders += 1;
    this.#taken.set(taken, this.#held);
    return taken;
  }

  /** Gives back what was taken; it is not to be read any more. */
  release(taken: Uint8Array): void {
    const held = this.#taken.get(taken);
    if (this.#taken.delete(taken) && held !== undefined) letGo(held);
  }

  /** Ends the source's iteration. */
  async close(): Promise<void> {
    await this.#source.return?.();
  }

  #append(blocks: readonly Uint8Array[], length: number): void {
    const [first] = blocks;
    const before = this.#held;
    if (first !== undefined && first.length === length) this.#held = holding(first);
    else {
      const joined = allocateBlock(length);
      let at = 0;
      for (const piece of [this.#buffered, ...blocks]) {
        joined.set(piece, at);
        at += piece.length;
      }
      for (const block of blocks) releaseBlock(block);
      this.#held = holding(joined);
    }
    this.#buffered = this.#held.block;
    letGo(before);
  }
}

function holding(block: Uint8Array): HeldBlock {
  return { block, holders: 1 };
}

function letGo(held: HeldBlock): void {
  held.holders -= 1;
  if (held.holders === 0) releaseBlock(held.block);
}
