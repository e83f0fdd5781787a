import { allocateBlock, releaseBlock } from './block-memory.ts';
import { BLOCK_BYTES } from './bytes.ts';

/** Full blocks that may wait for the consumer. While one does, the source goes on; with more it is held up. */
const BLOCKS_AHEAD_MAX = 2;

/** How the source of a queue is held up while the consumer has enough, and let go on. */
export interface Flow {
  pause(): void;
  /** Called also where the source is not paused. */
  resume(): void;
}

/**
 * Packs what comes in pieces of any size into blocks of 1 MiB (`allocateBlock`, the consumer's once `next` has given them),
 * and holds up the source while two of them wait: memory is three blocks and what the source still hands over after `pause`.
 */
export class BlockQueue {
  readonly #flow: Flow;
  readonly #full: Uint8Array[] = [];
  #block: Uint8Array | undefined;
  #filledBytes = 0;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #wake: () => void = () => undefined;

  constructor(flow: Flow) {
    this.#flow = flow;
  }

  /** Copies the bytes from `start` up to `end`. */
  append(bytes: DataView, start: number, end: number): void {
    for (let at = start; at < end; ) {
      this.#block ??= allocateBlock(BLOCK_BYTES);
      const stop = Math.min(end, at + BLOCK_BYTES - this.#filledBytes);
      this.#block.set(new Uint8Array(bytes.buffer, bytes.byteOffset + at, stop - at), this.#filledBytes);
      this.#filledBytes += stop - at;
      at = stop;
      if (this.#filledBytes === BLOCK_BYTES) this.#passOn(this.#block);
    }
  }

  /** Nothing more comes, and what came is complete. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** `next` throws the first such error, after the blocks that are full. No effect after `end`. */
  fail(error: unknown): void {
    if (!this.#ended) this.#failure ??= { error };
    this.#wake();
  }

  /** The next block, the last one maybe shorter; undefined at the end. One call at a time. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const block = this.#full.shift();
      if (this.#full.length < BLOCKS_AHEAD_MAX) this.#flow.resume();
      if (block !== undefined) return block;
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#ended) return this.#takeRest();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #passOn(block: Uint8Array): void {
    this.#full.push(block);
    this.#begin();
    if (this.#full.length >= BLOCKS_AHEAD_MAX) this.#flow.pause();
    this.#wake();
  }

  #begin(): void {
    this.#block = undefined;
    this.#filledBytes = 0;
  }

  #takeRest(): Uint8Array | undefined {
    if (this.#block === undefined) return undefined;
    // Most sources give little, and a whole block is much to keep for it.
    const rest = allocateBlock(this.#filledBytes);
    rest.set(this.#block.subarray(0, this.#filledBytes));
    releaseBlock(this.#block);
    this.#begin();
    return rest;
  }
}
