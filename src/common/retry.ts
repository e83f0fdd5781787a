import type { Clock } from './clock.ts';
import { assert } from './errors.ts';
import type { Random } from './random.ts';

export interface RetryPolicy {
  /** Attempts after the first one. Default: 3. */
  readonly retriesMax: number;
  /** Pause before the first retry, in milliseconds; it doubles with each further one. Default: 5,000. */
  readonly delayMs: number;
  /** No pause is longer than this, in milliseconds. Default: 60,000. */
  readonly delayMsMax: number;
}

export const defaultRetryPolicy: RetryPolicy = { retriesMax: 3, delayMs: 5_000, delayMsMax: 60_000 };

export interface RetryOptions {
  readonly policy: RetryPolicy;
  readonly clock: Clock;
  readonly random: Random;
  /** Ends a pause at once, and no further attempt begins. The operation has to watch it itself. */
  readonly signal?: AbortSignal | undefined;
  /** Whether another attempt could end otherwise than this error. */
  readonly isRetryable: (error: unknown) => boolean;
  /** The pause that a failure itself asks for (`Retry-After`), in milliseconds; it takes the place of a shorter one. */
  readonly pauseMs?: ((error: unknown) => number | undefined) | undefined;
  /** Told before each pause: why, which attempt failed (the first is 1), and how long the pause is. */
  readonly onRetry?: ((error: unknown, attempt: number, delayMs: number) => void) | undefined;
}

/** Beyond this many doublings every pause is at its maximum; it keeps the power of two finite. */
const DOUBLINGS_MAX = 40;

/**
 * The pause after the given failed attempt (the first is 1), in milliseconds: doubling, with equal jitter. Half of it is
 * certain, so that a store gets its rest; half is chance, so that many clients do not come back in step.
 */
export function retryDelayMs(policy: RetryPolicy, attempt: number, random: Random): number {
  const fullMs = Math.min(policy.delayMsMax, policy.delayMs * 2 ** Math.min(attempt - 1, DOUBLINGS_MAX));
  return Math.round(fullMs / 2 + (fullMs / 2) * random.fraction());
}

/**
 * Runs the operation until it succeeds, fails for good, or the policy's retries are used up; then it rejects with the last
 * attempt's own error. Aborted, it rejects with the signal's reason.
 */
export async function withRetries<T>(operation: (attempt: number) => Promise<T>, options: RetryOptions): Promise<T> {
  const { policy, clock, random, signal, isRetryable, pauseMs, onRetry } = options;
  assert(Number.isSafeInteger(policy.retriesMax) && policy.retriesMax >= 0, 'retriesMax is a count');
  for (let attempt = 1; ; attempt += 1) {
    signal?.throwIfAborted();
    try {
      return await operation(attempt);
    } catch (error) {
      signal?.throwIfAborted();
      if (attempt > policy.retriesMax || !isRetryable(error)) throw error;
      const delayMs = Math.max(retryDelayMs(policy, attempt, random), pauseMs?.(error) ?? 0);
      onRetry?.(error, attempt, delayMs);
      await clock.sleep(delayMs, signal);
    }
  }
}
