import { expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { PgarkError } from '../common/errors.ts';
import { StallWatch } from './stall-watch.ts';

const error = new PgarkError('stalled', 'nothing moves');

function scene(isDue = () => true): { clock: ManualClock; watch: StallWatch } {
  const clock = new ManualClock(new Date('2026-11-20T02:00:00Z'));
  return { clock, watch: new StallWatch({ clock, stallMs: 60_000, isDue, stalled: () => error }) };
}

test('what does not move for the whole limit is given up, with the reason', async () => {
  const { clock, watch } = scene();
  await clock.advance(59_000);
  expect(watch.signal.aborted).toBe(false);
  await clock.advance(1_000);
  expect(watch.signal.reason).toBe(error);
});

test('what moves, however little, is never given up', async () => {
  const { clock, watch } = scene();
  for (let minute = 0; minute < 100; minute += 1) {
    await clock.advance(55_000);
    watch.moved();
  }
  expect(watch.signal.aborted).toBe(false);
});

test('time in which nothing should move does not count', async () => {
  let due = false;
  const { clock, watch } = scene(() => due);
  await clock.advance(600_000);
  due = true;
  await clock.advance(50_000);
  expect(watch.signal.aborted).toBe(false);
  await clock.advance(20_000);
  expect(watch.signal.aborted).toBe(true);
});

test('time in which the process was stopped does not count', async () => {
  const { clock, watch } = scene();
  clock.stopFor(3_600_000);
  await clock.advance(50_000);
  expect(watch.signal.aborted).toBe(false);
  await clock.advance(10_000);
  expect(watch.signal.aborted).toBe(true);
});

test('a watch that was closed says nothing', async () => {
  const { clock, watch } = scene();
  watch[Symbol.dispose]();
  await clock.advance(600_000);
  expect(watch.signal.aborted).toBe(false);
});
