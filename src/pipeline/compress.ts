import { availableParallelism } from 'node:os';
import { constants, createGzip, createZstdCompress, type Gzip, type ZstdCompress } from 'node:zlib';
import { allocateBlock, freeMemory, releaseBlock } from '../common/block-memory.ts';
import { BLOCK_BYTES, type ByteStream, KIB } from '../common/bytes.ts';
import { letPoolGiveWay } from '../common/thread-priority.ts';
import { orderedMap, reblock } from './blocks.ts';
import { type Compression, compressionOf } from './compression.ts';
import type { Transform } from './transform.ts';

export interface CompressOptions {
  /**
   * Blocks that are compressed at the same time, on libuv's pool; each holds about 2 MiB and the compressor's own state.
   * Default: one more than there are processors.
   */
  readonly blocksInFlightMax?: number;
}

/** One more than can run at once, so that no processor waits while a result is handed on. */
export function defaultBlocksInFlightMax(): number {
  return availableParallelism() + 1;
}

/**
 * Compresses blocks of 1 MiB independently and in parallel: gzip members (RFC 1952) or zstd frames (RFC 8878, with
 * content size and checksum) one after another, which every stock tool reads as one file. Each block that comes out is
 * one whole member or frame. An empty source gives one empty member or frame, so that the object is valid. With `none`
 * the source passes untouched. The result depends on the bytes, not on the source's chunks. Throws `config-invalid` at
 * once for a level that the algorithm does not have.
 */
export function compress(compression: Compression, options: CompressOptions = {}): Transform {
  const { algorithm, level } = compressionOf(compression.algorithm, compression.level);
  const blocksInFlightMax = options.blocksInFlightMax ?? defaultBlocksInFlightMax();
  if (algorithm !== 'none') letPoolGiveWay();
  switch (algorithm) {
    case 'none':
      return (source) => source;
    case 'gzip':
      return (source) => orderedMap(blocksOf(source), blocksInFlightMax, (block) => gzipMember(block, level));
    case 'zstd':
      return (source) => orderedMap(blocksOf(source), blocksInFlightMax, (block) => zstdFrame(block, level));
    default:
      return algorithm satisfies never;
  }
}

/** Full blocks, and at least one, if an empty one. */
async function* blocksOf(source: ByteStream): ByteStream & AsyncGenerator<Uint8Array> {
  let empty = true;
  for await (const block of reblock(BLOCK_BYTES)(source)) {
    empty = false;
    yield block;
  }
  if (empty) yield new Uint8Array(0);
}

async function gzipMember(block: Uint8Array, level: number): Promise<Uint8Array> {
  const roomBytes = outputRoomBytes(block);
  return compressBlock(createGzip({ level, chunkSize: roomBytes }), block, roomBytes);
}

/**
 * Level 2 finds repetitions by a table of 256 KiB, which is asked at random. One of 64 KiB stays in the processor's nearer
 * memories: a quarter less work, and rows get no larger (adr/0014).
 */
const SMALL_TABLE_LEVEL = 2;
const SMALL_TABLE_LOG = 14;

async function zstdFrame(block: Uint8Array, level: number): Promise<Uint8Array> {
  const roomBytes = outputRoomBytes(block);
  const engine = createZstdCompress({
    chunkSize: roomBytes,
    pledgedSrcSize: block.length,
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_contentSizeFlag]: 1,
      [constants.ZSTD_c_checksumFlag]: 1,
      ...(level === SMALL_TABLE_LEVEL ? { [constants.ZSTD_c_hashLog]: SMALL_TABLE_LOG } : {}),
    },
  });
  return compressBlock(engine, block, roomBytes);
}

/**
 * Room for what a block becomes in the worst case, with either algorithm: both store what they cannot compress, at a cost
 * of some bytes for each 16 KiB. So zlib never has to come back for more of it. Memory that is not written to costs little.
 */
function outputRoomBytes(block: Uint8Array): number {
  return block.length + Math.ceil(block.length / 256) + KIB;
}

/**
 * What zlib's own one-shot functions do: one write, which is the last one too, and all output until the end. They would
 * keep the room from us, and leave it to the garbage collector together with the block; here both are given back at once.
 */
function compressBlock(engine: Gzip | ZstdCompress, block: Uint8Array, roomBytes: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const pieces: Uint8Array[] = [];
    engine.on('data', (piece: Uint8Array) => pieces.push(piece));
    engine.on('error', reject);
    engine.on('end', () => {
      engine.close();
      releaseBlock(block);
      resolve(takePieces(pieces, roomBytes));
    });
    engine.end(block);
  });
}

/** Puts pieces together in memory of just their size, and frees the room they were in. */
function takePieces(pieces: readonly Uint8Array[], roomBytes: number): Uint8Array {
  const whole = allocateBlock(pieces.reduce((bytes, piece) => bytes + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.length;
  }
  for (const room of new Set(pieces.map((piece) => piece.buffer))) {
    // Small buffers are parts of one that Node shares among many; one of just this size was made for this block alone.
    if (roomBytes > Buffer.poolSize && room.byteLength === roomBytes) freeMemory(room);
  }
  return whole;
}
