import type { Readable } from 'node:stream';
import { freeChunk } from './block-memory.ts';
import { BlockQueue } from './block-queue.ts';
import type { ByteStream } from './bytes.ts';

/**
 * What a program writes, packed into blocks of 1 MiB as it comes: libuv reads 64 KiB at the most, and so many small
 * chunks are better not handed through a whole pipeline. Throws what the stream does, and if it closes before its end.
 * Left early, it lets the rest run off unread, so that a program that is being ended can end. `onBytes` is told of every
 * chunk as it comes, long before its block is full.
 */
export async function* stdoutBlocks(stdout: Readable, onBytes?: (bytes: number) => void): ByteStream {
  const queue = new BlockQueue({ pause: () => stdout.pause(), resume: () => stdout.isPaused() && stdout.resume() });
  const pack = (chunk: Buffer): void => {
    onBytes?.(chunk.length);
    queue.append(new DataView(chunk.buffer, chunk.byteOffset, chunk.length), 0, chunk.length);
    // A pipe's chunk has memory of its own, which nobody else has seen.
    freeChunk(chunk);
  };
  stdout.on('error', (error) => queue.fail(error));
  stdout.on('end', () => queue.end());
  stdout.on('close', () => queue.fail(new Error('the output was cut off')));
  stdout.on('data', pack);
  try {
    for (;;) {
      const block = await queue.next();
      if (block === undefined) return;
      yield block;
    }
  } finally {
    stdout.off('data', pack);
    stdout.resume();
  }
}
