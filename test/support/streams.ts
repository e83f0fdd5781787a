import { spawn } from 'node:child_process';
import type { ByteStream } from '../../src/common/bytes.ts';

export async function blocksOf(stream: ByteStream): Promise<Uint8Array[]> {
  const blocks: Uint8Array[] = [];
  for await (const block of stream) blocks.push(block);
  return blocks;
}

/** All of a stream's bytes. */
export async function bytesOf(stream: ByteStream): Promise<Buffer> {
  return Buffer.concat(await blocksOf(stream));
}

/** A source that says how far it was read, and whether it was left properly. Its chunks are copies. */
export class WatchedSource implements AsyncIterable<Uint8Array> {
  readonly #chunks: Iterable<Uint8Array>;
  readonly #failure: Error | undefined;
  chunksRead = 0;
  /** The iteration came to its end: by itself, by a failure or because the consumer left. */
  closed = false;

  constructor(chunks: Iterable<Uint8Array>, failure?: Error) {
    this.#chunks = chunks;
    this.#failure = failure;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (const chunk of this.#chunks) {
        this.chunksRead += 1;
        yield Uint8Array.from(chunk);
      }
      if (this.#failure !== undefined) throw this.#failure;
    } finally {
      this.closed = true;
    }
  }
}

/** Cuts bytes into chunks of the given lengths, over and over; a length of 0 makes an empty chunk. */
export function* chunksOf(bytes: Uint8Array, lengths: readonly number[]): Generator<Uint8Array> {
  const usable = lengths.some((length) => length > 0) ? lengths : [...lengths, Math.max(1, bytes.length)];
  let offset = 0;
  for (let turn = 0; offset < bytes.length; turn += 1) {
    const length = usable[turn % usable.length] ?? 1;
    yield bytes.subarray(offset, offset + length);
    offset += length;
  }
}

/** The same bytes for the same seed (xorshift32); they do not compress. */
export function noise(bytes: number, seed = 1): Buffer {
  const result = Buffer.alloc(bytes);
  let state = seed;
  for (let offset = 0; offset < bytes; offset += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    result[offset] = state & 0xff;
  }
  return result;
}

/** Rows of text, as a dump has them; they compress several times. */
export function rows(bytes: number): Buffer {
  const lines: string[] = [];
  for (let line = 0, length = 0; length < bytes; line += 1) {
    const text = `${line}\tcustomer ${(line * 7919) % 10_007}\t2026-11-20 02:00:00\t{"total": ${(line * 31) % 997}}\n`;
    lines.push(text);
    length += text.length;
  }
  return Buffer.from(lines.join('')).subarray(0, bytes);
}

/** Runs a stock program on the input; rejects unless it ends with 0, also where it is not installed. */
export function runFilter(program: string, args: readonly string[], input: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    const output: Buffer[] = [];
    const complaints: Buffer[] = [];
    child.on('error', reject);
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => complaints.push(chunk));
    // A program may end before it has read everything; its exit status says why.
    child.stdin.on('error', () => undefined);
    child.on('close', (status) => {
      if (status === 0) resolve(Buffer.concat(output));
      else reject(new Error(`${program} ended with ${status}: ${Buffer.concat(complaints).toString()}`));
    });
    child.stdin.end(input);
  });
}
