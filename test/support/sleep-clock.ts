import type { Clock } from '../../src/common/clock.ts';

/** Time that passes only by sleeping, and then at once, in whole ticks as a coarse timer tells it. */
export class SleepClock implements Clock {
  readonly #tickMs: number;
  #ms = 0;

  constructor(tickMs = 1) {
    this.#tickMs = tickMs;
  }

  now(): Date {
    return new Date(this.#ms);
  }

  monotonicMs(): number {
    return this.#ms;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    // Others that are ready go on meanwhile.
    await new Promise((resolve) => setImmediate(resolve));
    signal?.throwIfAborted();
    this.#ms = Math.ceil((this.#ms + ms) / this.#tickMs) * this.#tickMs;
  }
}
