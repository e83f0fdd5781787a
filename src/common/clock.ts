import { setTimeout as delay } from 'node:timers/promises';

/** Time as it is injected everywhere, so that tests turn it by hand. */
export interface Clock {
  now(): Date;
  /** Milliseconds from an arbitrary start, never going back, not counting on the wall clock. */
  monotonicMs(): number;
  /** Resolves after the given time; rejects with the signal's reason when that is aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** A timer of Node.js that is to wait longer, 24.8 days, does not wait at all. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  async sleep(ms, signal) {
    signal?.throwIfAborted();
    const endMs = performance.now() + ms;
    try {
      for (let leftMs = ms; ; leftMs = endMs - performance.now()) {
        await delay(Math.min(leftMs, TIMER_MS_MAX), undefined, signal ? { signal } : {});
        if (leftMs <= TIMER_MS_MAX) return;
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  },
};

/** Another host's clock may be ahead by so much without any harm: what it names is of the past soon. */
export const AHEAD_MS_MAX = 3_600_000;
