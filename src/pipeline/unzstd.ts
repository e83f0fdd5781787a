import { promisify } from 'node:util';
import { constants, zstdDecompress } from 'node:zlib';
import { adoptBlock } from '../common/block-memory.ts';
import { BLOCK_BYTES, type ByteStream, KIB } from '../common/bytes.ts';
import { orderedMap } from './blocks.ts';
import { ByteReader } from './byte-reader.ts';
import { isSkippableMagic, isZstdMagic } from './compression.ts';
import { asCorrupt, damaged, truncated } from './corrupt.ts';
import { ZlibEngine } from './zlib-engine.ts';
import {
  BLOCK_HEADER_BYTES,
  parseBlockHeader,
  parseFrameHeader,
  SKIPPABLE_HEADER_BYTES,
  WINDOW_LOG_MAX,
  ZSTD_HEADER_BYTES_MAX,
  type ZstdFrameHeader,
} from './zstd-format.ts';

/** A frame whose content fits one block is at the most this long, unless it was cut into absurdly many blocks. */
const SMALL_FRAME_BYTES_MAX = BLOCK_BYTES + 64 * KIB;

/** A frame that is decompressed in one call. */
interface SmallFrame {
  readonly bytes: Uint8Array;
  readonly contentBytes: number;
}

/**
 * Decompresses zstd frames one after another (RFC 8878, 3.1); skippable frames are skipped. Where each frame ends is read
 * from its block headers, so an end inside a frame is found whatever the library makes of it, and anything that is no
 * frame, or an empty source, is `corrupt` too. Frames that state a content of 1 MiB or less (all of pgark's own)
 * are decompressed in parallel, one call each; others are streamed, with no more memory than their window,
 * 128 MiB at the most.
 */
export async function* unzstd(source: ByteStream, blocksInFlightMax: number): AsyncGenerator<Uint8Array> {
  const reader = new ByteReader(source);
  try {
    if (!(await reader.fill(1))) throw truncated('zstd');
    for (;;) {
      const decompressed = orderedMap(smallFrames(reader), blocksInFlightMax, async (frame) => {
        const content = await decompressSmall(frame);
        reader.release(frame.bytes);
        return content;
      });
      yield* withContent(decompressed);
      const header = await nextHeader(reader);
      if (header === undefined) return;
      yield* decompressLarge(reader, header);
    }
  } finally {
    await reader.close();
  }
}

async function* withContent(blocks: ByteStream): AsyncGenerator<Uint8Array> {
  for await (const block of blocks) if (block.length > 0) yield block;
}

/** Takes small frames as long as there are some; stops in front of a large one and at the end. */
async function* smallFrames(reader: ByteReader): AsyncGenerator<SmallFrame> {
  for (;;) {
    const header = await nextHeader(reader);
    if (header?.contentBytes === undefined || header.contentBytes > BLOCK_BYTES) return;
    const frameBytes = await measureSmall(reader, header);
    if (frameBytes === undefined) return;
    yield { bytes: reader.take(frameBytes), contentBytes: header.contentBytes };
  }
}

/** Skips skippable frames and parses the header that follows, without taking it. Undefined at the end of the input. */
async function nextHeader(reader: ByteReader): Promise<ZstdFrameHeader | undefined> {
  while (await reader.fill(1)) {
    if (!(await reader.fill(4))) throw truncated('zstd');
    const magic = uint32At(reader.buffered, 0);
    if (isZstdMagic(magic)) {
      await reader.fill(ZSTD_HEADER_BYTES_MAX);
      return parseFrameHeader(reader.buffered);
    }
    if (!isSkippableMagic(magic)) throw damaged('zstd', 'there are bytes that do not belong to any frame');
    await skipFrame(reader);
  }
  return undefined;
}

/** RFC 8878, 3.1.2: magic, length, and as many bytes of any content. */
async function skipFrame(reader: ByteReader): Promise<void> {
  if (!(await reader.fill(SKIPPABLE_HEADER_BYTES))) throw truncated('zstd');
  let leftBytes = SKIPPABLE_HEADER_BYTES + uint32At(reader.buffered, 4);
  while (leftBytes > 0) {
    if (!(await reader.fill(1))) throw truncated('zstd');
    const skipped = reader.take(Math.min(leftBytes, reader.buffered.length));
    leftBytes -= skipped.length;
    reader.release(skipped);
  }
}

/** Length of the frame in front, all of which is then buffered; undefined if it is too long to be held in memory. */
async function measureSmall(reader: ByteReader, header: ZstdFrameHeader): Promise<number | undefined> {
  let endBytes = header.headerBytes;
  for (let last = false; !last; ) {
    if (endBytes + BLOCK_HEADER_BYTES > SMALL_FRAME_BYTES_MAX) return undefined;
    if (!(await reader.fill(endBytes + BLOCK_HEADER_BYTES))) throw truncated('zstd');
    const block = parseBlockHeader(reader.buffered, endBytes);
    endBytes += block.bytes;
    last = block.last;
  }
  endBytes += header.checksumBytes;
  if (endBytes > SMALL_FRAME_BYTES_MAX) return undefined;
  if (!(await reader.fill(endBytes))) throw truncated('zstd');
  return endBytes;
}

const zstdDecompressAsync = promisify(zstdDecompress);

async function decompressSmall({ bytes, contentBytes }: SmallFrame): Promise<Uint8Array> {
  // More room than needed spares the library a second call to find out that there is no more; 64 is Node's minimum.
  const roomBytes = contentBytes + 64;
  let content: Uint8Array;
  try {
    content = await zstdDecompressAsync(bytes, {
      chunkSize: roomBytes,
      maxOutputLength: Math.max(1, contentBytes),
      params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX },
    });
  } catch (error) {
    throw asCorrupt('zstd', error);
  }
  if (content.length !== contentBytes) {
    throw damaged('zstd', `a frame holds ${content.length} bytes and claims to hold ${contentBytes}`);
  }
  // Small buffers are parts of one that Node shares among many; one of just this size was made for this content alone.
  const isOwn = roomBytes > Buffer.poolSize && content.buffer.byteLength === roomBytes;
  return isOwn ? adoptBlock(content) : content;
}

async function* decompressLarge(reader: ByteReader, header: ZstdFrameHeader): AsyncGenerator<Uint8Array> {
  const engine = new ZlibEngine('zstd');
  try {
    for await (const piece of piecesOfFrame(reader, header)) {
      yield* engine.write(piece);
      reader.release(piece);
    }
    yield* engine.end();
  } finally {
    engine.destroy();
  }
}

/** The bytes of the frame in front, exactly, in pieces of whole blocks: as many as lie in memory. */
async function* piecesOfFrame(reader: ByteReader, header: ZstdFrameHeader): AsyncGenerator<Uint8Array> {
  let endBytes = header.headerBytes;
  for (let last = false; !last; ) {
    if (endBytes > 0 && endBytes + BLOCK_HEADER_BYTES > reader.buffered.length) {
      yield reader.take(endBytes);
      endBytes = 0;
    }
    if (!(await reader.fill(endBytes + BLOCK_HEADER_BYTES))) throw truncated('zstd');
    const block = parseBlockHeader(reader.buffered, endBytes);
    if (!(await reader.fill(endBytes + block.bytes))) throw truncated('zstd');
    endBytes += block.bytes;
    last = block.last;
  }
  endBytes += header.checksumBytes;
  if (!(await reader.fill(endBytes))) throw truncated('zstd');
  yield reader.take(endBytes);
}

function uint32At(bytes: Uint8Array, offset: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(offset, true);
}
