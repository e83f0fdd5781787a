import type { Clock } from '../common/clock.ts';

/** What the start has left goes first. */
const FIRST_MS = 60_000;
const EVERY_MS = 5 * 60_000;

interface IdleMemoryOptions {
  readonly clock: Clock;
  /** Whether nothing is at work that a collection would hold up. */
  readonly isIdle: () => boolean;
  /** Aborted: it is over. */
  readonly signal: AbortSignal;
  /** Collects all garbage and gives back what is free. Default: V8's own, if it was started with `--expose-gc`. */
  readonly collect?: (() => void) | undefined;
}

/**
 * Gives memory back while nothing is to do, every five minutes. What a start, a run or a scrape leaves behind would otherwise
 * stay until so much more of it has come that V8 collects by itself, which takes a daemon that waits hours. Never rejects.
 */
export async function tidyMemoryWhenIdle(options: IdleMemoryOptions): Promise<void> {
  const { clock, isIdle, signal, collect = collectAll } = options;
  for (let waitMs = FIRST_MS; !signal.aborted; waitMs = EVERY_MS) {
    await clock.sleep(waitMs, signal).catch(() => undefined);
    if (!signal.aborted && isIdle()) collect();
  }
}

function collectAll(): void {
  // It holds everything up for less than a tenth of a second.
  globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
