import { allocateBlock, releaseBlock } from '../common/block-memory.ts';
import { BLOCK_BYTES } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import type { Transform } from './transform.ts';

/**
 * Packs chunks of any size into blocks of exactly `blockBytes`; only the last one may be shorter. Yields no empty block,
 * and nothing at all for an empty source. Chunks that fill a block by themselves pass without being copied, several
 * blocks of one long chunk as views of it; one that was copied is released.
 */
export function reblock(blockBytes: number = BLOCK_BYTES): Transform {
  assert(Number.isSafeInteger(blockBytes) && blockBytes > 0, 'a block holds at least one byte');
  return async function* reblocked(source) {
    let block: Uint8Array | undefined;
    let filledBytes = 0;
    for await (const chunk of source) {
      let offset = 0;
      let passed = false;
      while (offset < chunk.length) {
        if (block === undefined && chunk.length - offset >= blockBytes) {
          passed = true;
          yield chunk.length === blockBytes ? chunk : chunk.subarray(offset, offset + blockBytes);
          offset += blockBytes;
          continue;
        }
        // Blocks are handed over for good, so each is a fresh buffer; it is filled to its end or cut to what was filled.
        block ??= allocateBlock(blockBytes);
        const piece = chunk.subarray(offset, offset + blockBytes - filledBytes);
        block.set(piece, filledBytes);
        filledBytes += piece.length;
        offset += piece.length;
        if (filledBytes === blockBytes) {
          yield block;
          block = undefined;
          filledBytes = 0;
        }
      }
      if (!passed) releaseBlock(chunk);
    }
    if (block !== undefined) yield block.subarray(0, filledBytes);
  };
}

/**
 * Runs `job` on each item, at most `jobsInFlightMax` at a time, and yields the results in the items' order. While the
 * consumer holds a result, the jobs behind it go on; the source is asked for the next item only when the consumer asks
 * for the next result, so the source is never more than `jobsInFlightMax` items ahead and can always be closed at once.
 *
 * The first failure, of the source or of a job, is thrown as it is. Then, and when the consumer leaves early, the source
 * is closed and all started jobs have settled before the iteration ends.
 */
export async function* orderedMap<Item, Result>(
  source: AsyncIterable<Item>,
  jobsInFlightMax: number,
  job: (item: Item) => Promise<Result>,
): AsyncGenerator<Result, void, undefined> {
  assert(Number.isSafeInteger(jobsInFlightMax) && jobsInFlightMax > 0, 'at least one job may run');
  const inFlight: Promise<Result>[] = [];
  try {
    for await (const item of source) {
      const started = job(item);
      // A job may fail while nobody waits for it yet; its error is thrown when its turn comes.
      started.catch(() => undefined);
      inFlight.push(started);
      if (inFlight.length >= jobsInFlightMax) yield await takeFirst(inFlight);
    }
    while (inFlight.length > 0) yield await takeFirst(inFlight);
  } finally {
    await Promise.allSettled(inFlight);
  }
}

function takeFirst<Result>(inFlight: Promise<Result>[]): Promise<Result> {
  const first = inFlight.shift();
  assert(first !== undefined, 'a job is in flight');
  return first;
}
