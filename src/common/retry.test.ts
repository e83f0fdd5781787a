import { describe, expect, test } from 'vitest';
import type { Clock } from './clock.ts';
import type { Random } from './random.ts';
import { defaultRetryPolicy, type RetryOptions, retryDelayMs, withRetries } from './retry.ts';

/** A clock on which every sleep passes at once and is written down. */
function fakeClock(): Clock & { readonly sleepsMs: number[] } {
  const sleepsMs: number[] = [];
  return {
    sleepsMs,
    now: () => new Date(0),
    monotonicMs: () => sleepsMs.reduce((sum, ms) => sum + ms, 0),
    async sleep(ms, signal) {
      signal?.throwIfAborted();
      sleepsMs.push(ms);
      await Promise.resolve();
    },
  };
}

const fixedRandom = (fraction: number): Random => ({
  bytes: (count) => new Uint8Array(count),
  fraction: () => fraction,
});

const options = (clock: Clock, more: Partial<RetryOptions> = {}): RetryOptions => ({
  policy: defaultRetryPolicy,
  clock,
  random: fixedRandom(1),
  isRetryable: () => true,
  ...more,
});

describe('retries', () => {
  test('pause 5, 10 and 20 seconds by default, then give up with the last error', async () => {
    const clock = fakeClock();
    const seen: number[] = [];
    const told: unknown[] = [];
    const run = withRetries(
      (attempt) => {
        seen.push(attempt);
        return Promise.reject(new Error(`attempt ${attempt}`));
      },
      options(clock, { onRetry: (error, attempt, delayMs) => told.push([String(error), attempt, delayMs]) }),
    );
    await expect(run).rejects.toThrow('attempt 4');
    expect(seen).toEqual([1, 2, 3, 4]);
    expect(clock.sleepsMs).toEqual([5_000, 10_000, 20_000]);
    expect(told).toEqual([
      ['Error: attempt 1', 1, 5_000],
      ['Error: attempt 2', 2, 10_000],
      ['Error: attempt 3', 3, 20_000],
    ]);
  });

  test('pause as long as a failure asks for, and never shorter than the policy wants', async () => {
    const clock = fakeClock();
    const asked = [30_000, 1, undefined];
    const run = withRetries(
      (attempt) => Promise.reject(new Error(String(attempt))),
      options(clock, { pauseMs: (error) => asked[Number((error as Error).message) - 1] }),
    );
    await expect(run).rejects.toThrow('4');
    expect(clock.sleepsMs).toEqual([30_000, 10_000, 20_000]);
  });

  test('end with the first success and return its value', async () => {
    const clock = fakeClock();
    const value = await withRetries(
      (attempt) => (attempt < 3 ? Promise.reject(new Error('not yet')) : Promise.resolve('done')),
      options(clock),
    );
    expect(value).toBe('done');
    expect(clock.sleepsMs).toHaveLength(2);
  });

  test('do not happen for an error that another attempt cannot change', async () => {
    const clock = fakeClock();
    const error = new Error('no such bucket');
    const run = withRetries(() => Promise.reject(error), options(clock, { isRetryable: (thrown) => thrown !== error }));
    await expect(run).rejects.toBe(error);
    expect(clock.sleepsMs).toEqual([]);
  });

  test('do not happen where the policy allows none', async () => {
    const clock = fakeClock();
    const policy = { ...defaultRetryPolicy, retriesMax: 0 };
    await expect(withRetries(() => Promise.reject(new Error('once')), options(clock, { policy }))).rejects.toThrow(
      'once',
    );
    expect(clock.sleepsMs).toEqual([]);
  });

  test('jitter between half and the whole of the pause, and never exceed the longest pause', () => {
    const policy = { retriesMax: 10_000, delayMs: 5_000, delayMsMax: 60_000 };
    expect(retryDelayMs(policy, 1, fixedRandom(0))).toBe(2_500);
    expect(retryDelayMs(policy, 1, fixedRandom(1))).toBe(5_000);
    expect(retryDelayMs(policy, 5, fixedRandom(1))).toBe(60_000);
    expect(retryDelayMs(policy, 5_000, fixedRandom(1))).toBe(60_000);
    expect(retryDelayMs({ ...policy, delayMs: 0 }, 5_000, fixedRandom(1))).toBe(0);
  });

  test('end with the signal’s reason when it is aborted during a pause, and try no more', async () => {
    const controller = new AbortController();
    const reason = new Error('stopped');
    let attempts = 0;
    const clock: Clock = {
      ...fakeClock(),
      sleep: (_ms, signal) => {
        controller.abort(reason);
        return Promise.reject(signal?.reason as Error);
      },
    };
    const run = withRetries(
      () => {
        attempts += 1;
        return Promise.reject(new Error('fails'));
      },
      options(clock, { signal: controller.signal }),
    );
    await expect(run).rejects.toBe(reason);
    expect(attempts).toBe(1);
  });

  test('end with the signal’s reason when an attempt fails because of the abort', async () => {
    const controller = new AbortController();
    const reason = new Error('stopped');
    const clock = fakeClock();
    const run = withRetries(
      () => {
        controller.abort(reason);
        return Promise.reject(new Error('socket closed'));
      },
      options(clock, { signal: controller.signal }),
    );
    await expect(run).rejects.toBe(reason);
    expect(clock.sleepsMs).toEqual([]);
  });

  test('make no attempt at all when the signal is aborted already', async () => {
    const run = withRetries(
      () => Promise.resolve('never'),
      options(fakeClock(), { signal: AbortSignal.abort('early') }),
    );
    await expect(run).rejects.toBe('early');
  });
});
