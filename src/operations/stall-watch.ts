import type { Clock } from '../common/clock.ts';
import type { PgarkError } from '../common/errors.ts';

/**
 * What moves nothing for so long is given up, where nothing else is said. Longer than pg_dump waits for its locks on
 * tables, in which it is silent.
 */
export const STALL_MS = 15 * 60_000;

/** How often it looks, in parts of the limit, and at least every so many milliseconds. */
const LOOKS_PER_LIMIT = 20;
const LOOK_MS_MAX = 1_000;

export interface StallWatchOptions {
  readonly clock: Clock;
  /** How long nothing may move, in milliseconds. */
  readonly stallMs: number;
  /** Whether something should move at present; while nothing should, no time counts. */
  readonly isDue: () => boolean;
  /** The reason of the signal when it is aborted. */
  readonly stalled: () => PgarkError;
}

/**
 * Watches that something moves, however slowly, and aborts its signal when nothing did for too long. It has no limit for
 * the whole. A process that was stopped for a while, or had no turn, was not watching: that time does not count.
 */
export class StallWatch implements Disposable {
  readonly signal: AbortSignal;
  readonly #options: StallWatchOptions;
  readonly #stalled = new AbortController();
  readonly #closed = new AbortController();
  #quietMs = 0;

  constructor(options: StallWatchOptions) {
    this.#options = options;
    this.signal = this.#stalled.signal;
    // It ends by its own signal, which is no failure.
    this.#watch().catch(() => {});
  }

  /** Something has moved. */
  moved(): void {
    this.#quietMs = 0;
  }

  [Symbol.dispose](): void {
    this.#closed.abort();
  }

  async #watch(): Promise<void> {
    const { clock, stallMs, isDue, stalled } = this.#options;
    const everyMs = Math.min(LOOK_MS_MAX, stallMs / LOOKS_PER_LIMIT);
    let lookedMs = clock.monotonicMs();
    while (this.#quietMs < stallMs) {
      await clock.sleep(everyMs, this.#closed.signal);
      const nowMs = clock.monotonicMs();
      this.#quietMs = isDue() ? this.#quietMs + Math.min(nowMs - lookedMs, 2 * everyMs) : 0;
      lookedMs = nowMs;
    }
    this.#stalled.abort(stalled());
  }
}
