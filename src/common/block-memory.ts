import { BLOCK_BYTES } from './bytes.ts';
import { assert } from './errors.ts';

/** Blocks that `allocateBlock` made and nobody has released yet. */
const lent = new WeakSet<Uint8Array>();

/** A block that several consumers hold, and how many of them have not released it yet. */
interface SharedBlock {
  readonly block: Uint8Array;
  holders: number;
}

/** What each consumer's own view of a shared block stands for, until that consumer has released it. */
const shares = new WeakMap<Uint8Array, SharedBlock>();

/** Memory of full blocks that were released, for the next ones; more are never needed at once by one pipeline. */
const FREE_BLOCKS_MAX = 8;
const free: ArrayBuffer[] = [];

/**
 * Memory for a block on its way through a pipeline, its content undefined. Whoever consumes the block last may give the
 * memory back by `releaseBlock`; a block that nobody releases is left to the garbage collector.
 */
export function allocateBlock(bytes: number): Uint8Array<ArrayBuffer> {
  assert(Number.isSafeInteger(bytes) && bytes >= 0, 'a block has a length');
  const used = bytes === BLOCK_BYTES ? free.pop() : undefined;
  const block = new Uint8Array(used ?? Buffer.allocUnsafeSlow(bytes).buffer);
  lent.add(block);
  return block;
}

/**
 * Takes over a block that somebody else has made and given away, to be released as those of `allocateBlock` are. Nobody may
 * use any other part of the memory behind it.
 */
export function adoptBlock(block: Uint8Array): Uint8Array {
  lent.add(block);
  return block;
}

/**
 * A view of the block for each of several consumers, none of whom may change it. Each releases its own view when it is
 * done; the last of them gives the block back. A consumer that never releases its view leaves the block to the garbage
 * collector; one that releases it twice does no harm. The block itself is not to be used any more.
 */
export function shareBlock(block: Uint8Array, holders: number): readonly Uint8Array[] {
  assert(Number.isSafeInteger(holders) && holders > 0, 'a block has at least one consumer');
  if (holders === 1) return [block];
  const shared: SharedBlock = { block, holders };
  return Array.from({ length: holders }, () => {
    const view = block.subarray();
    shares.set(view, shared);
    return view;
  });
}

/**
 * A view of a part of a block that goes its own way. The block's memory is given back when all its parts and the block
 * itself were released, in whatever order; a part can have parts.
 */
export function partOf(block: Uint8Array, start: number, end: number): Uint8Array {
  const shared = shares.get(block) ?? ownShare(block);
  shared.holders += 1;
  const part = block.subarray(start, end);
  shares.set(part, shared);
  return part;
}

/** Makes of a block one of the holders of its memory, so that it counts once, however often it is released. */
function ownShare(block: Uint8Array): SharedBlock {
  const whole = block.subarray();
  if (lent.delete(block)) lent.add(whole);
  const shared = { block: whole, holders: 1 };
  shares.set(block, shared);
  return shared;
}

/** Whether the block's memory is gone: it is empty, and so is every view of it. */
export function isGivenBack(block: Uint8Array): boolean {
  const { buffer } = block;
  return buffer instanceof ArrayBuffer && buffer.detached;
}

/**
 * Takes back a block of `allocateBlock` or `adoptBlock`, to be freed or used again. The block and all views of it are empty from then on,
 * so that a consumer who still holds one finds nothing, and never the content of another block. Only the last consumer
 * may call it. Anything else (a view, a buffer of somebody else's) is left alone, so that consumers need not know where a
 * block comes from. A view that `shareBlock` made stays readable until the last of its like is released.
 *
 * Streams make garbage of several times the bytes they move. Left to the garbage collector it makes the process larger
 * than it needs to be, and V8, which counts such memory, runs a full collection after every few MiB.
 */
export function releaseBlock(block: Uint8Array): void {
  const shared = shares.get(block);
  if (shared !== undefined) {
    shares.delete(block);
    shared.holders -= 1;
    if (shared.holders === 0) releaseBlock(shared.block);
    return;
  }
  if (!lent.delete(block) || !(block.buffer instanceof ArrayBuffer)) return;
  const isUsual = block.buffer.byteLength === BLOCK_BYTES;
  if (isUsual && free.length < FREE_BLOCKS_MAX) free.push(block.buffer.transfer());
  else freeMemory(block.buffer);
}

/**
 * The memory of a block that `releaseBlock` would take back at once, for another thread, whence it comes back by `adoptBlock`.
 * Undefined for any other: somebody else may see it.
 */
export function takeMemory(block: Uint8Array): ArrayBuffer | undefined {
  return !shares.has(block) && block.buffer instanceof ArrayBuffer && lent.delete(block) ? block.buffer : undefined;
}

/** Frees the memory behind a buffer that nobody else has a view of. */
export function freeMemory(buffer: ArrayBufferLike): void {
  if (buffer instanceof ArrayBuffer) buffer.transfer(0);
}

/**
 * Frees what a stream of Node's was read into, once its content was copied: V8 would collect after every few MiB of such
 * garbage. Whoever has the chunk has to have done with those before it. Behind one that ends where its memory ends nothing
 * lies, and before it only what was read earlier; and one that is the whole of its memory, or as long as this, does not lie
 * in the memory that Node's small buffers share. Any other is left alone.
 */
export function freeChunk({ buffer, byteOffset, byteLength }: Uint8Array): void {
  const isLast = byteOffset + byteLength === buffer.byteLength;
  if (isLast && (byteOffset === 0 || byteLength > Buffer.poolSize / 2)) freeMemory(buffer);
}
