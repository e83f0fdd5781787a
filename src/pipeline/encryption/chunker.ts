/**
 * Cuts a stream into chunks of one size. The last chunk comes from `end` only, whole or not, since formats mark it: a
 * chunk leaves `push` once a byte behind it is known. Empty only if the whole stream is.
 */
export class Chunker {
  readonly #chunkBytes: number;
  #held: Buffer;
  #heldBytes = 0;

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes;
    this.#held = Buffer.allocUnsafe(chunkBytes);
  }

  /** Chunks that are complete and not the last; they may be views of `block`. */
  push(block: Uint8Array): Uint8Array[] {
    const chunks: Uint8Array[] = [];
    let offset = 0;
    while (this.#heldBytes + block.length - offset > this.#chunkBytes) {
      if (this.#heldBytes === 0) {
        chunks.push(block.subarray(offset, offset + this.#chunkBytes));
        offset += this.#chunkBytes;
      } else {
        const missingBytes = this.#chunkBytes - this.#heldBytes;
        this.#held.set(block.subarray(offset, offset + missingBytes), this.#heldBytes);
        chunks.push(this.#held);
        this.#held = Buffer.allocUnsafe(this.#chunkBytes);
        this.#heldBytes = 0;
        offset += missingBytes;
      }
    }
    this.#held.set(block.subarray(offset), this.#heldBytes);
    this.#heldBytes += block.length - offset;
    return chunks;
  }

  end(): Uint8Array {
    return this.#held.subarray(0, this.#heldBytes);
  }
}
