import { releaseBlock } from '../common/block-memory.ts';
import type { ByteStream } from '../common/bytes.ts';

/** Reads a stream to its end for what it checks, and releases its blocks. Resolves with the number of its bytes. */
export async function drain(stream: ByteStream, signal?: AbortSignal): Promise<number> {
  let bytes = 0;
  for await (const block of stream) {
    signal?.throwIfAborted();
    bytes += block.length;
    releaseBlock(block);
  }
  return bytes;
}
