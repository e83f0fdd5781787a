import { freeMemory } from '../../common/block-memory.ts';
import { assert } from '../../common/errors.ts';

/**
 * Part buffers, used again and again, never more at once than the taker allows. For one taker and any number of givers.
 */
export class BufferPool {
  #free: Buffer[] = [];
  #lent = 0;
  #wake: (() => void) | undefined;

  /** Waits until fewer than `countMax` buffers are out. The content is whatever was in it before. */
  async take(bytes: number, countMax: number): Promise<Buffer> {
    while (this.#lent >= countMax) {
      assert(this.#wake === undefined, 'a buffer pool has one taker');
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    // Parts grow in rare steps, and never shrink: buffers of another size are of no more use.
    this.#free = this.#free.filter((buffer) => buffer.byteLength === bytes).slice(0, countMax - this.#lent);
    this.#lent += 1;
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(bytes);
  }

  give(buffer: Buffer): void {
    this.#lent -= 1;
    this.#free.push(buffer);
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Frees the memory of all buffers that were given back, for good; the garbage collector would keep it for a while. */
  free(): void {
    for (const buffer of this.#free.splice(0)) freeMemory(buffer.buffer);
  }
}
