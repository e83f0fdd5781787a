import { GIB, KIB, MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { HEADER_BYTES, LENGTH_BYTES, MESSAGE } from './message.ts';
import { PACK_BYTES_MAX, packRows } from './row-packer.ts';

/** The server builds a message in memory of 1 GiB − 1 at the most (MaxAllocSize, src/include/utils/memutils.h). */
const COPY_DATA_BYTES_MAX = GIB - 1;
/** Messages that hold texts of people or values of users. */
const LONG_BYTES_MAX = 16 * MIB;
/** All others. As libpq (VALID_LONG_MESSAGE_TYPE, fe-protocol3.c), what claims to be longer is taken for garbage. */
const SHORT_BYTES_MAX = 64 * KIB;

/** Largest content of each message besides CopyData that the server sends during a simple query or a COPY. */
const CONTENT_BYTES_MAX: ReadonlyMap<number, number> = new Map([
  [MESSAGE.commandComplete, SHORT_BYTES_MAX],
  [MESSAGE.copyBothResponse, SHORT_BYTES_MAX],
  [MESSAGE.copyDone, 0],
  [MESSAGE.copyInResponse, SHORT_BYTES_MAX],
  [MESSAGE.copyOutResponse, SHORT_BYTES_MAX],
  [MESSAGE.dataRow, LONG_BYTES_MAX],
  [MESSAGE.emptyQueryResponse, 0],
  [MESSAGE.errorResponse, LONG_BYTES_MAX],
  [MESSAGE.noticeResponse, LONG_BYTES_MAX],
  [MESSAGE.notificationResponse, SHORT_BYTES_MAX],
  [MESSAGE.parameterStatus, SHORT_BYTES_MAX],
  [MESSAGE.readyForQuery, SHORT_BYTES_MAX],
  [MESSAGE.rowDescription, LONG_BYTES_MAX],
]);

/** What takes the messages as a `FrameReader` finds them. */
export interface FrameHandler {
  /**
   * Content of a CopyData message as it lies in the chunk, from `start` up to `end`: to be used or copied before the call
   * returns. A message that lies in several chunks comes in several calls; `begins` is true in its first one, which may be
   * empty.
   */
  copyData(chunk: DataView, start: number, end: number, begins: boolean): void;
  /**
   * Contents of several CopyData messages, whole, one behind the other: as `copyData`, for who does not care where one
   * message ends. Where it is missing, each comes by itself.
   */
  readonly copyMessages?: ((contents: DataView, start: number, end: number, count: number) => void) | undefined;
  /** Any other message, whole, with its header; the memory is the handler's. True: nothing more is read of the chunk. */
  message(type: number, frame: Buffer): boolean;
}

/**
 * Takes a server's answer apart (protocol 3, https://www.postgresql.org/docs/current/protocol-message-formats.html), in
 * chunks as they come from the socket. CopyData is never gathered, and no object is made of each: rows of a few dozen bytes
 * come by the million. Other messages are gathered as their bytes arrive; a length that the server only claims costs nothing.
 */
export class FrameReader {
  readonly #handler: FrameHandler;
  /** What is still to come of a CopyData message. */
  #copyBytesLeft = 0;
  /** The header of another message, or as much of it as is there. */
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  /** That message as far as it has come, and how much of it has not. */
  #pieces: Buffer[] = [];
  #bytesLeft = 0;

  constructor(handler: FrameHandler) {
    this.#handler = handler;
  }

  /**
   * Takes a chunk and returns how much of it was read: all, unless the handler wanted no more. The chunk is not kept.
   * Error: `postgres-failed` for a type or length that the protocol does not have; the reader is useless then.
   */
  push(chunk: Uint8Array): number {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const { length } = chunk;
    let at = 0;
    while (at < length) {
      if (this.#copyBytesLeft > 0) {
        const end = Math.min(length, at + this.#copyBytesLeft);
        this.#copyBytesLeft -= end - at;
        this.#handler.copyData(view, at, end, false);
        at = end;
      } else if (this.#headerBytes === 0 && length - at >= HEADER_BYTES && chunk[at] === MESSAGE.copyData) {
        const start = at + HEADER_BYTES;
        const end = start + contentBytes(MESSAGE.copyData, view.getInt32(at + 1));
        if (this.#handler.copyMessages !== undefined && end <= Math.min(length, at + PACK_BYTES_MAX)) {
          const packed = packRows(chunk.subarray(at, at + PACK_BYTES_MAX));
          at += packed.bytesRead;
          this.#handler.copyMessages(packed.view, packed.start, packed.end, packed.count);
          continue;
        }
        at = Math.min(length, end);
        this.#copyBytesLeft = end - at;
        this.#handler.copyData(view, start, at, true);
      } else if (this.#headerBytes < HEADER_BYTES) {
        at += this.#readHeader(chunk, at);
        if (this.#headerBytes === HEADER_BYTES && this.#beginMessage(view, at)) return at;
      } else {
        const piece = Buffer.from(chunk.subarray(at, at + this.#bytesLeft));
        this.#pieces.push(piece);
        this.#bytesLeft -= piece.length;
        at += piece.length;
        if (this.#bytesLeft === 0 && this.#endMessage()) return at;
      }
    }
    return length;
  }

  #readHeader(chunk: Uint8Array, at: number): number {
    const piece = chunk.subarray(at, at + HEADER_BYTES - this.#headerBytes);
    this.#header.set(piece, this.#headerBytes);
    this.#headerBytes += piece.length;
    return piece.length;
  }

  #beginMessage(view: DataView, at: number): boolean {
    const type = this.#header.readUInt8(0);
    const bytes = contentBytes(type, this.#header.readInt32BE(1));
    if (type === MESSAGE.copyData) {
      this.#headerBytes = 0;
      this.#copyBytesLeft = bytes;
      this.#handler.copyData(view, at, at, true);
      return false;
    }
    this.#pieces = [Buffer.from(this.#header)];
    this.#bytesLeft = bytes;
    return bytes === 0 && this.#endMessage();
  }

  #endMessage(): boolean {
    const frame = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#headerBytes = 0;
    return this.#handler.message(frame.readUInt8(0), frame);
  }
}

function contentBytes(type: number, length: number): number {
  const bytes = length - LENGTH_BYTES;
  const bytesMax = type === MESSAGE.copyData ? COPY_DATA_BYTES_MAX : (CONTENT_BYTES_MAX.get(type) ?? -1);
  if (bytes < 0 || bytes > bytesMax) {
    throw new PgarkError(
      'postgres-failed',
      `what the server sent is not PostgreSQL’s protocol: a message of type 0x${type.toString(16)} and ${length} bytes`,
      {
        hint: 'something between here and the server changes what it passes on; see whether a proxy or a pooler is there',
      },
    );
  }
  return bytes;
}
