import type { ByteStream } from '../common/bytes.ts';
import { KIB } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';

/** What one stream may take before it is another one's turn; less where that would take longer than `SLICE_MS_MAX`. */
const SLICE_BYTES_MAX = 64 * KIB;
const SLICE_MS_MAX = 50;
/** What was not used of so much time may be made up for: timers are late by milliseconds, and threads are busy. */
const BURST_MS = 100;
/** Timers take no times beyond some weeks. */
const PAUSE_MS_MAX = 60_000;

export interface PassOptions {
  /** Whoever waits is let go with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Called with each slice that may pass: the bytes move as they are allowed to. */
  readonly onSlice?: (() => void) | undefined;
}

interface Waiter {
  left: number;
  readonly onSlice: (() => void) | undefined;
  readonly pass: () => void;
}

/**
 * A limit of bytes in a second that any number of streams share: a token bucket. They take turns, slice by slice, so that one that
 * wants much does not keep the others waiting. It holds no bytes, and has a timer only while somebody waits.
 */
export class Throttle {
  readonly #clock: Clock;
  readonly #queue = new Set<Waiter>();
  #bytesPerMs: number;
  /** By the monotonic clock: when all that has passed is paid for. */
  #paidAtMs: number;
  #isServing = false;
  /** Ends the pause when nobody waits any more, or the limit is another one. */
  #pause = new AbortController();

  constructor(bytesPerSecond: number | undefined, clock: Clock) {
    this.#clock = clock;
    this.#bytesPerMs = perMs(bytesPerSecond);
    this.#paidAtMs = clock.monotonicMs();
  }

  /** From now on; undefined for none. */
  limitTo(bytesPerSecond: number | undefined): void {
    const nowMs = this.#clock.monotonicMs();
    const owedMs = Math.max(0, this.#paidAtMs - nowMs);
    const owedBytes = Number.isFinite(this.#bytesPerMs) ? owedMs * this.#bytesPerMs : 0;
    this.#bytesPerMs = perMs(bytesPerSecond);
    this.#paidAtMs = nowMs + owedBytes / this.#bytesPerMs;
    this.#wake();
  }

  /** Counts bytes that do not wait, such as state of a few hundred: what follows waits for them. */
  count(bytes: number): void {
    this.#catchUp();
    this.#paidAtMs += bytes / this.#bytesPerMs;
  }

  /** Resolves when so many bytes may pass. */
  async pass(bytes: number, { signal, onSlice }: PassOptions = {}): Promise<void> {
    signal?.throwIfAborted();
    if (bytes === 0 || !Number.isFinite(this.#bytesPerMs)) return;
    const passed = Promise.withResolvers<void>();
    const waiter: Waiter = { left: bytes, onSlice, pass: () => passed.resolve() };
    const leave = (): void => {
      this.#queue.delete(waiter);
      if (this.#queue.size === 0) this.#wake();
      passed.reject(signal?.reason);
    };
    signal?.addEventListener('abort', leave, { once: true });
    this.#queue.add(waiter);
    if (!this.#isServing) void this.#serve();
    try {
      await passed.promise;
    } finally {
      signal?.removeEventListener('abort', leave);
    }
  }

  /** Never rejects. */
  async #serve(): Promise<void> {
    this.#isServing = true;
    for (;;) {
      const [next] = this.#queue;
      if (next === undefined) break;
      const waitMs = this.#paidAtMs - this.#clock.monotonicMs();
      if (waitMs > 0) {
        this.#pause = new AbortController();
        await this.#clock.sleep(Math.min(waitMs, PAUSE_MS_MAX), this.#pause.signal).catch(() => undefined);
        continue;
      }
      this.#catchUp();
      const slice = Math.min(next.left, SLICE_BYTES_MAX, Math.max(1, Math.floor(this.#bytesPerMs * SLICE_MS_MAX)));
      this.#paidAtMs += slice / this.#bytesPerMs;
      next.left -= slice;
      // Behind those that wait.
      this.#queue.delete(next);
      if (next.left > 0) this.#queue.add(next);
      next.onSlice?.();
      if (next.left === 0) next.pass();
    }
    this.#isServing = false;
  }

  #wake(): void {
    this.#pause.abort(new Error('nobody waits, or for another limit'));
  }

  /** Time in which nothing passed is not saved up for later, but for a little. */
  #catchUp(): void {
    this.#paidAtMs = Math.max(this.#paidAtMs, this.#clock.monotonicMs() - BURST_MS);
  }
}

function perMs(bytesPerSecond: number | undefined): number {
  return bytesPerSecond === undefined ? Number.POSITIVE_INFINITY : bytesPerSecond / 1_000;
}

/** The same blocks, each when it may pass. An end or an abort is not kept waiting. */
export function throttled(body: ByteStream, throttle: Throttle, { signal, onSlice }: PassOptions = {}): ByteStream {
  return {
    [Symbol.asyncIterator]() {
      const inner = body[Symbol.asyncIterator]();
      const over = new AbortController();
      const ended = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
      return {
        async next() {
          const step = await inner.next();
          if (step.done === true) return step;
          try {
            await throttle.pass(step.value.byteLength, { signal: ended, onSlice });
          } catch (error) {
            await inner.return?.();
            throw error;
          }
          return step;
        },
        async return() {
          over.abort(new Error('the stream ends'));
          await inner.return?.();
          return { done: true, value: undefined };
        },
      };
    },
  };
}
