import type * as Timers from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { systemClock } from './clock.ts';

const DAY_MS = 86_400_000;
const waits = vi.hoisted((): number[] => []);

// Fake timers leave these alone.
vi.mock('node:timers/promises', async (importOriginal) => {
  const timers = await importOriginal<typeof Timers>();
  return {
    ...timers,
    setTimeout: async (ms: number, ...rest: [undefined, { readonly signal?: AbortSignal }]): Promise<void> => {
      if (!vi.isFakeTimers()) return timers.setTimeout(ms, ...rest);
      waits.push(ms);
      vi.advanceTimersByTime(ms);
    },
  };
});

afterEach(() => vi.useRealTimers());

test('sleeps for longer than a timer can wait', async () => {
  vi.useFakeTimers();
  await systemClock.sleep(60 * DAY_MS);
  expect(Math.max(...waits)).toBeLessThan(2 ** 31);
  expect(waits.reduce((sum, ms) => sum + ms, 0)).toBe(60 * DAY_MS);
});

test('a sleep of any length ends with the reason of its signal', async () => {
  const over = new AbortController();
  const reason = new Error('enough');
  const sleeping = systemClock.sleep(60 * DAY_MS, over.signal);
  setTimeout(() => over.abort(reason), 20);
  await expect(sleeping).rejects.toBe(reason);
});
