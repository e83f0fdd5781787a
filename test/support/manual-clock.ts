import type { Clock } from '../../src/common/clock.ts';

interface Waiter {
  readonly dueMs: number;
  readonly wake: () => void;
}

/**
 * Time that stands still until a test turns it. `sleep` and `after` are woken in the order of their times; between two of
 * them, promises that are ready go on.
 */
export class ManualClock implements Clock {
  #monotonicMs = 0;
  #wallMs: number;
  #waiters: Waiter[] = [];

  constructor(start: Date) {
    this.#wallMs = start.getTime();
  }

  now(): Date {
    return new Date(this.#wallMs);
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const cancel = this.after(ms, resolve);
      signal?.addEventListener('abort', () => {
        cancel();
        reject(signal.reason);
      });
    });
  }

  after(ms: number, callback: () => void): () => void {
    const waiter = { dueMs: this.#monotonicMs + ms, wake: callback };
    this.#waiters.push(waiter);
    return () => {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
    };
  }

  /** How many pauses are going on. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /** Time passes, with everything that is due on the way. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#monotonicMs + ms;
    await settle();
    for (;;) {
      const next = this.#waiters
        .filter((waiter) => waiter.dueMs <= endMs)
        .reduce<Waiter | undefined>(
          (first, waiter) => (first && first.dueMs <= waiter.dueMs ? first : waiter),
          undefined,
        );
      if (next === undefined) break;
      this.#passTo(Math.max(next.dueMs, this.#monotonicMs));
      this.#waiters = this.#waiters.filter((waiter) => waiter !== next);
      next.wake();
      await settle();
    }
    this.#passTo(endMs);
  }

  /** The process is stopped (SIGSTOP): both clocks go on, nothing is woken until time passes again. */
  stopFor(ms: number): void {
    this.#passTo(this.#monotonicMs + ms);
  }

  /** The machine is suspended: the wall clock goes on, the monotonic one stands still. */
  suspendFor(ms: number): void {
    this.#wallMs += ms;
  }

  #passTo(monotonicMs: number): void {
    this.#wallMs += monotonicMs - this.#monotonicMs;
    this.#monotonicMs = monotonicMs;
  }
}

/** Lets promises that are ready go on, several times over. */
async function settle(): Promise<void> {
  for (let round = 0; round < 5; round += 1) await new Promise((resolve) => setImmediate(resolve));
}
