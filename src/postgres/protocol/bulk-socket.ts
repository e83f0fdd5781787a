import { Socket } from 'node:net';
import { KIB } from '../../common/bytes.ts';

/** The most that is read at once: about what the system holds of a connection within one machine. */
const READ_BYTES = 256 * KIB;
/** What comes in smaller pieces is let gather. */
const SMALL_READ_BYTES = 64 * KIB;
const GATHER_MS = 1;

/** Is given what was read: memory that is written again as soon as it returns. */
export type ChunkTaker = (chunk: Buffer) => void;

/**
 * A socket to a server that sends in bulk, but 8 KiB at a time as PostgreSQL does: read as it comes, a dump costs more
 * wake-ups than anything else. While there is a taker, the socket waits a millisecond after each small read, which the
 * server uses to send more, and reads into the same memory again and again. Otherwise it is a socket like any other, but
 * that it cannot be read as a stream without listening to `data`.
 */
export class BulkSocket extends Socket {
  #taker: ChunkTaker | undefined;

  constructor() {
    const memory = Buffer.allocUnsafeSlow(READ_BYTES);
    super({
      onread: {
        buffer: memory,
        callback: (bytes) => this.#pass(memory.subarray(0, bytes)),
      },
    });
  }

  /** From now on this one is given what comes, and no listener. */
  passTo(taker: ChunkTaker | undefined): void {
    this.#taker = taker;
  }

  /** Whether to go on reading. */
  #pass(chunk: Buffer): boolean {
    const taker = this.#taker;
    if (taker === undefined) {
      this.emit('data', Buffer.from(chunk));
      return true;
    }
    taker(chunk);
    if (chunk.length >= SMALL_READ_BYTES || this.#taker === undefined) return true;
    setTimeout(() => {
      if (!this.destroyed && !this.isPaused()) this.resume();
    }, GATHER_MS);
    return false;
  }
}
