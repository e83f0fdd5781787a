import { freeMemory } from '../../common/block-memory.ts';
import { assert } from '../../common/errors.ts';

interface Waiting {
  readonly bytes: number;
  readonly wake: () => void;
}

/**
 * Part buffers, used again and again, for uploads that share their memory. What is out never exceeds the limit, but for
 * one buffer that does so by itself; who wants more waits, in turn. Whoever has a buffer must not wait for another one.
 */
export class BufferPool {
  readonly #bytesMax: number;
  readonly #waiting: Waiting[] = [];
  /** Of one size. */
  readonly #free: Buffer[] = [];
  #lentBytes = 0;
  #users = 0;
  readonly #keepMs: number;
  #freeing: NodeJS.Timeout | undefined;

  /**
   * `keepMs`: how long memory stays when its last user is done, for who comes soon after. Large buffers are the system's own
   * pieces of memory, and each page of a new one costs more than to fill it does.
   */
  constructor(bytesMax = Number.POSITIVE_INFINITY, keepMs = 0) {
    this.#bytesMax = bytesMax;
    this.#keepMs = keepMs;
  }

  /**
   * Lets somebody take buffers while `work` lasts. When the last one is done the memory is freed, which the garbage
   * collector would keep for a while.
   */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.#users += 1;
    clearTimeout(this.#freeing);
    try {
      return await work();
    } finally {
      this.#users -= 1;
      if (this.#users === 0) this.#freeSoon();
    }
  }

  /** The content is whatever was in it before. Rejects with the signal's reason if that comes first. */
  async take(bytes: number, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted();
    if (this.#waiting.length > 0 || !this.#fits(bytes)) await this.#turn(bytes, signal);
    else this.#lentBytes += bytes;
    // Parts grow in rare steps, and never shrink; uploads whose parts differ are rare as well.
    if (this.#free[0]?.byteLength !== bytes) this.#freeAll();
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(bytes);
  }

  /** Takes back a buffer that nothing reads or writes any more. */
  give(buffer: Buffer): void {
    if (this.#free.length > 0 && this.#free[0]?.byteLength !== buffer.byteLength) this.#freeAll();
    this.#free.push(buffer);
    this.drop(buffer);
  }

  /** Takes back a buffer that something may still read or write: its memory is not used again. */
  drop(buffer: Buffer): void {
    this.#lentBytes -= buffer.byteLength;
    assert(this.#lentBytes >= 0, 'what is given back was taken');
    this.#serve();
  }

  #fits(bytes: number): boolean {
    return this.#lentBytes === 0 || this.#lentBytes + bytes <= this.#bytesMax;
  }

  #freeSoon(): void {
    if (this.#keepMs === 0) this.#freeAll();
    else this.#freeing = setTimeout(() => this.#freeAll(), this.#keepMs).unref();
  }

  #freeAll(): void {
    for (const buffer of this.#free.splice(0)) freeMemory(buffer.buffer);
  }

  /** Resolves when the bytes are lent. */
  #turn(bytes: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting = {
        bytes,
        wake: () => {
          signal.removeEventListener('abort', leave);
          resolve();
        },
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        reject(signal.reason);
        this.#serve();
      };
      signal.addEventListener('abort', leave, { once: true });
      this.#waiting.push(waiting);
    });
  }

  #serve(): void {
    for (let [next] = this.#waiting; next !== undefined && this.#fits(next.bytes); [next] = this.#waiting) {
      this.#waiting.shift();
      this.#lentBytes += next.bytes;
      next.wake();
    }
  }
}
