import { Socket } from 'node:net';
import { KIB } from '../../common/bytes.ts';

/** The most that is read at once: more than the system holds of a connection within one machine. */
const READ_BYTES = 256 * KIB;
/** What comes in smaller pieces is let gather. */
const SMALL_READ_BYTES = 64 * KIB;
/** A server that sends so much in the time that it is given to has been held up: it waits for room to send more. */
const HELD_UP_BYTES = 192 * KIB;
const GATHER_MS = 1;
/** For which a fast server is waited for: it writes some 64 KiB meanwhile, and is far from being held up. */
const MOMENT_MS = 0.1;
/** Small reads after which a server that is fast is given the time again, to find out whether it still is. */
const FAST_READS = 64;

/** Is given what was read: memory that is written again as soon as it returns. */
export type ChunkTaker = (chunk: Buffer) => void;

/**
 * A socket to a server that sends in bulk, but 8 KiB at a time as PostgreSQL does: read as it comes, a dump costs more
 * wake-ups than anything else. While there is a taker, the socket lets the server send more after each small read: for a
 * millisecond, or, where that held the server up, for a moment in which this thread sleeps, so that server and compression have
 * the processor. And it reads into the same memory again and again. Otherwise it is a socket like any other, but that it cannot be
 * read as a stream without listening to `data`.
 */
export class BulkSocket extends Socket {
  #taker: ChunkTaker | undefined;
  #gathered = false;
  #fastReadsLeft = 0;

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
    if (this.#gathered && chunk.length >= HELD_UP_BYTES) this.#fastReadsLeft = FAST_READS;
    this.#gathered = false;
    if (chunk.length >= SMALL_READ_BYTES || this.#taker === undefined) return true;
    if (this.#fastReadsLeft > 0) {
      this.#fastReadsLeft -= 1;
      afterAMoment(this.#readOn);
    } else {
      this.#gathered = true;
      setTimeout(this.#readOn, GATHER_MS);
    }
    return false;
  }

  readonly #readOn = (): void => {
    if (!this.destroyed && !this.isPaused()) this.resume();
  };
}

const nobodyWakes = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
let waiting: (() => void)[] = [];

/**
 * Calls all that wait in one turn of the event loop when a moment is over; no timer is as short as that. What else was to be done
 * in that turn is a part of the moment.
 */
function afterAMoment(call: () => void): void {
  waiting.push(call);
  if (waiting.length > 1) return;
  const endMs = performance.now() + MOMENT_MS;
  setImmediate(() => {
    const leftMs = endMs - performance.now();
    if (leftMs > 0) Atomics.wait(nobodyWakes, 0, 0, leftMs);
    const calls = waiting;
    waiting = [];
    for (const each of calls) each();
  });
}
