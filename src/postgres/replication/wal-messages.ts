import { PgarkError } from '../../common/errors.ts';
import type { Lsn } from '../wal/lsn.ts';
import { protocolTimeOf, type ServerTime, serverTimeOf } from '../wal/server-time.ts';

/** What takes a stream of WAL as it comes. What it throws ends the stream, and is its error. */
export interface WalHandler {
  /** Bytes that begin at the position: to be used or copied before the call returns. */
  wal(lsn: Lsn, bytes: Uint8Array): void;
  /** With each message that has WAL, before it: by the server's clock it has WAL up to the position. */
  told(end: Lsn, time: ServerTime): void;
  /**
   * With each other message: by the server's clock it has sent WAL up to the position, and may have more. `isAnswer`: to a
   * status that asked.
   */
  sent(end: Lsn, time: ServerTime, isAnswer: boolean): void;
  /** The server wants to hear from us, soon. */
  replyWanted(): void;
}

const WAL_DATA = 0x77;
const WAL_DATA_HEAD_BYTES = 1 + 8 + 8 + 8;
const KEEPALIVE = 0x6b;
const KEEPALIVE_BYTES = 1 + 8 + 8 + 1;
const STATUS = 0x72;
const STATUS_BYTES = 1 + 8 + 8 + 8 + 8 + 1;

/**
 * Reads what a WAL sender puts into CopyData messages (https://www.postgresql.org/docs/current/protocol-replication.html,
 * START_REPLICATION), in whatever pieces they come. WAL is passed on as it lies in the chunk of the socket.
 */
export class WalMessages {
  readonly #handler: WalHandler;
  readonly #head = Buffer.alloc(WAL_DATA_HEAD_BYTES);
  #headBytes = 0;
  /** The whole head of this message has been read; what follows is WAL of this position. */
  #isOpen = false;
  #lsn: Lsn = 0n;

  constructor(handler: WalHandler) {
    this.#handler = handler;
  }

  /** As `FrameHandler.copyData`. Error: `postgres-failed` for what no WAL sender sends. */
  copyData(chunk: DataView, start: number, end: number, begins: boolean): void {
    if (begins) {
      if (this.#headBytes > 0 && !this.#isOpen) throw foreign('it is cut off');
      this.#headBytes = 0;
      this.#isOpen = false;
    }
    const at = this.#isOpen ? start : start + this.#readHead(bytesOf(chunk, start, end));
    if (at === end) return;
    if (this.#head[0] !== WAL_DATA) throw foreign('it is too long');
    this.#handler.wal(this.#lsn, bytesOf(chunk, at, end));
    this.#lsn += BigInt(end - at);
  }

  /** Returns how many bytes belong to the head. */
  #readHead(bytes: Uint8Array): number {
    const [first] = bytes;
    if (first === undefined) return 0;
    const type = this.#headBytes === 0 ? first : this.#head[0];
    const headBytes = type === WAL_DATA ? WAL_DATA_HEAD_BYTES : KEEPALIVE_BYTES;
    if (type !== WAL_DATA && type !== KEEPALIVE) throw foreign(`its type is 0x${(type ?? 0).toString(16)}`);
    const piece = bytes.subarray(0, headBytes - this.#headBytes);
    this.#head.set(piece, this.#headBytes);
    this.#headBytes += piece.length;
    if (this.#headBytes === headBytes) this.#openMessage(type);
    return piece.length;
  }

  #openMessage(type: number): void {
    this.#isOpen = true;
    if (type === KEEPALIVE) {
      // A server that answers wants no reply, one that speaks of itself does.
      const wantsReply = this.#head[17] === 1;
      this.#handler.sent(this.#head.readBigUInt64BE(1), serverTimeOf(this.#head.readBigInt64BE(9)), !wantsReply);
      if (wantsReply) this.#handler.replyWanted();
      return;
    }
    this.#lsn = this.#head.readBigUInt64BE(1);
    this.#handler.told(this.#head.readBigUInt64BE(9), serverTimeOf(this.#head.readBigInt64BE(17)));
  }
}

/** How far a receiver is. */
export interface StandbyStatus {
  /** Behind the last byte that was received. */
  readonly written: Lsn;
  /** Behind the last byte that lasts; 0: not said, and the server waits for none. */
  readonly flushed: Lsn;
  /** By our own clock. */
  readonly at: Date;
  /** Whether the server is to answer at once, so that we know its clock and how far it is also while it has no news. */
  readonly asks: boolean;
}

/** The content of a status update. Nothing is ever said to be applied, which would make commits wait for that. */
export function statusUpdate({ written, flushed, at, asks }: StandbyStatus): Uint8Array {
  const content = Buffer.alloc(STATUS_BYTES);
  content.writeUInt8(STATUS, 0);
  content.writeBigUInt64BE(written, 1);
  content.writeBigUInt64BE(flushed, 9);
  content.writeBigInt64BE(protocolTimeOf(at), 25);
  content.writeUInt8(Number(asks), STATUS_BYTES - 1);
  return content;
}

function bytesOf(chunk: DataView, start: number, end: number): Uint8Array {
  return new Uint8Array(chunk.buffer, chunk.byteOffset + start, end - start);
}

function foreign(why: string): PgarkError {
  return new PgarkError('postgres-failed', `the server sent a message that no WAL sender sends: ${why}`);
}
