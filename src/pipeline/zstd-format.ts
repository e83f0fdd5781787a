import { KIB, MIB } from '../common/bytes.ts';
import { damaged, truncated } from './corrupt.ts';

/** The start of a zstd frame (RFC 8878, 3.1.1.1). */
export interface ZstdFrameHeader {
  /** Length of magic and header. */
  readonly headerBytes: number;
  /** Length of the decompressed content, where the frame states it. Can be as wrong as any other byte. */
  readonly contentBytes: number | undefined;
  /** Bytes of output that a decompressor must keep at hand. */
  readonly windowBytes: number;
  readonly checksumBytes: 0 | 4;
}

/** Magic, descriptor, window, dictionary id, content size. */
export const ZSTD_HEADER_BYTES_MAX = 4 + 1 + 1 + 4 + 8;
export const SKIPPABLE_HEADER_BYTES = 8;
export const BLOCK_HEADER_BYTES = 3;
/** RFC 8878, 3.1.1.2.4: no block holds or gives more. */
const BLOCK_CONTENT_BYTES_MAX = 128 * KIB;
/** What the zstd program itself accepts unless told otherwise; `--ultra -22` needs it all. */
export const WINDOW_LOG_MAX = 27;
const WINDOW_BYTES_MAX = 2 ** WINDOW_LOG_MAX;

/**
 * Parses the header at the start of `bytes`, which holds `ZSTD_HEADER_BYTES_MAX` bytes or all that there are. The magic
 * has been looked at. Throws `corrupt` if it is cut off, damaged, or asks for more memory or other data than there is.
 */
export function parseFrameHeader(bytes: Uint8Array): ZstdFrameHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.byteLength < 5) throw truncated('zstd');
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const windowFieldBytes = singleSegment ? 0 : 1;
  const dictionaryFieldBytes = [0, 1, 2, 4][descriptor & 0x03] ?? 0;
  const contentFieldBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const contentOffset = 5 + windowFieldBytes + dictionaryFieldBytes;
  const headerBytes = contentOffset + contentFieldBytes;
  if (view.byteLength < headerBytes) throw truncated('zstd');
  if ((descriptor & 0x08) !== 0) throw damaged('zstd', 'a reserved bit of a frame header is set');
  if (dictionaryFieldBytes > 0) throw damaged('zstd', 'a frame asks for a dictionary, which pgark does not have');

  const contentBytes = readContentBytes(view, contentOffset, contentFieldBytes);
  const windowBytes = singleSegment ? (contentBytes ?? 0) : readWindowBytes(view.getUint8(5));
  if (windowBytes > WINDOW_BYTES_MAX) {
    throw damaged(
      'zstd',
      `a frame asks for ${Math.ceil(windowBytes / MIB)} MiB of memory, more than the ${WINDOW_BYTES_MAX / MIB} MiB allowed`,
    );
  }
  return { headerBytes, contentBytes, windowBytes, checksumBytes: (descriptor & 0x04) === 0 ? 0 : 4 };
}

/** RFC 8878, 3.1.1.1.4. */
function readContentBytes(view: DataView, offset: number, fieldBytes: number): number | undefined {
  switch (fieldBytes) {
    case 0:
      return undefined;
    case 1:
      return view.getUint8(offset);
    case 2:
      return view.getUint16(offset, true) + 256;
    case 4:
      return view.getUint32(offset, true);
    default:
      return Number(view.getBigUint64(offset, true));
  }
}

/** RFC 8878, 3.1.1.1.2. */
function readWindowBytes(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 0x07);
}

export interface ZstdBlockHeader {
  readonly last: boolean;
  /** Length of header and body together. */
  readonly bytes: number;
}

/** RFC 8878, 3.1.1.2: three bytes at `offset`. Throws `corrupt`. */
export function parseBlockHeader(bytes: Uint8Array, offset: number): ZstdBlockHeader {
  const header = (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8) | ((bytes[offset + 2] ?? 0) << 16);
  const type = (header >> 1) & 0x03;
  const size = header >> 3;
  if (type === 3 || size > BLOCK_CONTENT_BYTES_MAX) throw damaged('zstd', 'a block header is impossible');
  // Type 1 is one byte, to be repeated `size` times.
  return { last: (header & 1) === 1, bytes: BLOCK_HEADER_BYTES + (type === 1 ? 1 : size) };
}
