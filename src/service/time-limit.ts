import type { Clock } from '../common/clock.ts';

export interface TimeLimit {
  readonly signal: AbortSignal;
  /** Nothing is aborted any more by time alone. Idempotent. */
  end(): void;
}

/** Aborts its signal with an error of these words once the time has passed, or with `parent`'s reason before. */
export function timeLimit(clock: Clock, ms: number, words: string, parent?: AbortSignal): TimeLimit {
  const time = new AbortController();
  const done = new AbortController();
  clock.sleep(ms, done.signal).then(
    () => time.abort(new Error(words)),
    () => {},
  );
  const signal = parent === undefined ? time.signal : AbortSignal.any([time.signal, parent]);
  return { signal, end: () => done.abort() };
}

/** Aborts its signal when this much time has passed since `trigger` was aborted; at once for 0. */
export function timeLimitAfter(trigger: AbortSignal | undefined, clock: Clock, ms: number, words: string): TimeLimit {
  const late = new AbortController();
  const done = new AbortController();
  const begin = (): void => {
    if (ms === 0) late.abort(new Error(words));
    else
      clock.sleep(ms, done.signal).then(
        () => late.abort(new Error(words)),
        () => {},
      );
  };
  if (trigger?.aborted === true) begin();
  else trigger?.addEventListener('abort', begin, { once: true, signal: done.signal });
  return { signal: late.signal, end: () => done.abort() };
}

/** What the promise comes to, or the signal's reason as soon as that is aborted: for calls that cannot be cut themselves. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const cut = Promise.withResolvers<never>();
  const abort = (): void => cut.reject(signal.reason as Error);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  // Whichever loses is not waited for, and its failure is nobody's.
  promise.catch(() => {});
  cut.promise.catch(() => {});
  try {
    return await Promise.race([promise, cut.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
