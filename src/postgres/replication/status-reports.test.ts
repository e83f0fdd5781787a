import { expect, test } from 'vitest';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import { StatusReports } from './status-reports.ts';

const START = new Date('2026-11-20T02:00:00Z');

function reporting(withholdAfterMs = 0) {
  const clock = new ManualClock(START);
  const said: [written: bigint, flushed: bigint][] = [];
  const asked: boolean[] = [];
  const reports = new StatusReports(100n, {
    clock,
    everyMs: 10_000,
    withholdAfterMs,
    send: ({ written, flushed, asks }) => {
      said.push([written, flushed]);
      asked.push(asks);
    },
  });
  const since = (): typeof said => said.splice(0);
  return { clock, reports, since, asked };
}

test('the server hears from us every so often, whether there is news or not, and is asked for its own', async () => {
  const { clock, reports, since, asked } = reporting();
  reports.soon();
  await clock.advance(25_000);
  expect(asked).toEqual([false, true, true]);
  expect(since()).toEqual([
    [100n, 0n],
    [100n, 0n],
    [100n, 0n],
  ]);
  reports.end();
  await clock.advance(60_000);
  reports.soon();
  expect(since()).toEqual([]);
});

test('what lasts is said once while there is more that does not, and always while it is all', async () => {
  const { clock, reports, since } = reporting();
  reports.received(500n);
  reports.lasts(300n);
  expect(since()).toEqual([
    [500n, 300n],
    [500n, 0n],
  ]);
  await clock.advance(10_000);
  expect(since()).toEqual([[500n, 0n]]);
  reports.lasts(500n);
  await clock.advance(100);
  expect(since()).toEqual([[500n, 500n]]);
  await clock.advance(9_900);
  expect(since()).toEqual([[500n, 500n]]);
  reports.received(501n);
  await clock.advance(10_000);
  expect(since()).toEqual([[501n, 0n]]);
  reports.end();
});

test('a server that asks and asks is answered ten times a second', async () => {
  const { clock, reports, since } = reporting();
  for (let ms = 0; ms < 1_000; ms += 1) {
    reports.soon();
    await clock.advance(1);
  }
  // The first at once, then one in each tenth of a second.
  expect(since().length).toBe(11);
  reports.end();
});

test('a synchronous standby says what lasts until that has not moved for a while', async () => {
  const { clock, reports, since } = reporting(2_000);
  reports.received(500n);
  reports.lasts(300n);
  expect(since()).toEqual([[500n, 300n]]);
  await clock.advance(1_000);
  reports.soon();
  expect(since()).toEqual([[500n, 300n]]);
  await clock.advance(1_000);
  reports.soon();
  expect(since()).toEqual([[500n, 0n]]);
  reports.lasts(400n);
  await clock.advance(200);
  expect(since()).toEqual([[500n, 400n]]);
  reports.end();
});
