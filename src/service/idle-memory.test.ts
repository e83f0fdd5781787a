import { expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { tidyMemoryWhenIdle } from './idle-memory.ts';

const MINUTE_MS = 60_000;

test('memory is given back a minute after the start and every five minutes, where nothing runs, until the end', async () => {
  const clock = new ManualClock(new Date('2026-11-20T12:00:00Z'));
  const stop = new AbortController();
  let idle = true;
  let collected = 0;
  const tidying = tidyMemoryWhenIdle({
    clock,
    isIdle: () => idle,
    signal: stop.signal,
    collect: () => void (collected += 1),
  });
  await clock.advance(MINUTE_MS);
  expect(collected).toBe(1);
  await clock.advance(5 * MINUTE_MS);
  expect(collected).toBe(2);
  idle = false;
  await clock.advance(15 * MINUTE_MS);
  expect(collected).toBe(2);
  idle = true;
  await clock.advance(5 * MINUTE_MS);
  expect(collected).toBe(3);
  stop.abort();
  await tidying;
  await clock.advance(5 * MINUTE_MS);
  expect(collected).toBe(3);
});
