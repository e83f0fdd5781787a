import { describe, expect, test } from 'vitest';
import { DueTimes } from '../observability/expectations.ts';
import { dueNow, firstDue, jitterOf, nextDue, type Timetable } from './due-times.ts';

const HOUR_MS = 3_600_000;

function cron(expression: string, jitterMs = 0): Timetable {
  return { id: 'shop/nightly', schedule: { kind: 'cron', expression }, jitterMs };
}

function every(everyMs: number, jitterMs = 0): Timetable {
  return { id: 'shop/often', schedule: { kind: 'interval', everyMs }, jitterMs };
}

/** The next due times after one, as if each fired on time. */
function series(timetable: Timetable, timezone: string, start: string, count: number): string[] {
  const dueTimes = new DueTimes(timezone);
  const times: string[] = [];
  let due = firstDue(timetable, undefined, new Date(start), dueTimes);
  while (due !== undefined && times.length < count) {
    times.push(due.dueAt.toISOString().replace('.000Z', 'Z'));
    due = nextDue(timetable, due.dueAt, due.fireAt, dueTimes);
  }
  return times;
}

const utc = new DueTimes('UTC');
const at = (text: string): Date => new Date(text);

describe('cron expressions', () => {
  test('*/5 fires at the five-minute marks', () => {
    expect(series(cron('*/5 * * * *'), 'UTC', '2026-11-20T10:02:13Z', 4)).toEqual([
      '2026-11-20T10:05:00Z',
      '2026-11-20T10:10:00Z',
      '2026-11-20T10:15:00Z',
      '2026-11-20T10:20:00Z',
    ]);
  });

  test('are meant in the time zone', () => {
    expect(series(cron('0 2 * * *'), 'Asia/Tokyo', '2026-11-20T10:00:00Z', 2)).toEqual([
      '2026-11-20T17:00:00Z',
      '2026-11-21T17:00:00Z',
    ]);
  });

  test('in the spring night of Berlin that has no 02:30 run once, right after the gap', () => {
    expect(series(cron('30 2 * * *'), 'Europe/Berlin', '2026-03-28T00:00:00Z', 3)).toEqual([
      '2026-03-28T01:30:00Z',
      '2026-03-29T01:00:00Z',
      '2026-03-30T00:30:00Z',
    ]);
  });

  test('with a list of times are not skipped in that night either', () => {
    expect(series(cron('30 2,14 * * *'), 'Europe/Berlin', '2026-03-28T20:00:00Z', 2)).toEqual([
      '2026-03-29T01:00:00Z',
      '2026-03-29T12:30:00Z',
    ]);
  });

  test('in the autumn night of Berlin that has 02:30 twice run once', () => {
    expect(series(cron('30 2 * * *'), 'Europe/Berlin', '2026-10-24T12:00:00Z', 2)).toEqual([
      '2026-10-25T00:30:00Z',
      '2026-10-26T01:30:00Z',
    ]);
  });

  test.each([
    ['spring', '2026-03-29T00:20:00Z'],
    ['autumn', '2026-10-25T00:20:00Z'],
  ])('that repeat within the hour go on through the night of %s in steps of real time', (_night, start) => {
    const times = series(cron('*/15 * * * *'), 'Europe/Berlin', start, 12).map((time) => Date.parse(time));
    const steps = times.slice(1).map((time, index) => time - (times[index] ?? 0));
    expect(new Set(steps)).toEqual(new Set([15 * 60_000]));
  });
});

describe('after downtime', () => {
  test('a cron time that was missed is due at once, and then at its next time', () => {
    const now = at('2026-11-20T12:00:00Z');
    const missed = firstDue(cron('0 2 * * *'), at('2026-11-17T02:00:00Z'), now, utc);
    expect(missed?.dueAt).toEqual(at('2026-11-18T02:00:00Z'));
    expect(nextDue(cron('0 2 * * *'), at('2026-11-18T02:00:00Z'), now, utc)?.dueAt).toEqual(at('2026-11-21T02:00:00Z'));
  });

  test('a cron time that was not missed waits for its next one', () => {
    const due = firstDue(cron('0 2 * * *'), at('2026-11-20T02:00:00Z'), at('2026-11-20T12:00:00Z'), utc);
    expect(due?.dueAt).toEqual(at('2026-11-21T02:00:00Z'));
  });

  test('a job that never ran waits for its cron time, and an interval begins now', () => {
    const now = at('2026-11-20T12:00:00Z');
    expect(firstDue(cron('0 2 * * *'), undefined, now, utc)?.dueAt).toEqual(at('2026-11-21T02:00:00Z'));
    expect(firstDue(every(HOUR_MS), undefined, now, utc)?.dueAt).toEqual(now);
  });

  test.each([
    ['keeps its mark after a short stop', '10:00', '10:20', '11:00'],
    ['is late for its mark, and keeps it, where it missed that alone', '10:00', '11:40', '11:00'],
    ['begins anew where it missed more', '10:00', '14:10', '14:10'],
  ])('an interval of an hour %s', (_title, last, now, due) => {
    const day = (time: string): Date => at(`2026-11-20T${time}:00Z`);
    expect(firstDue(every(HOUR_MS), day(last), day(now), utc)?.dueAt).toEqual(day(due));
  });

  test('a time far ahead, told by a clock that was wrong, is not waited for', () => {
    const now = at('2026-11-20T12:00:00Z');
    const wrong = at('2036-11-20T12:00:00Z');
    expect(firstDue(cron('0 2 * * *'), wrong, now, utc)?.dueAt).toEqual(at('2026-11-21T02:00:00Z'));
    expect(firstDue(every(HOUR_MS), wrong, now, utc)?.dueAt).toEqual(now);
  });

  test('an interval that slept through several of its times counts from now', () => {
    const now = at('2026-11-20T18:30:00Z');
    const due = { dueAt: at('2026-11-20T11:00:00Z'), fireAt: at('2026-11-20T11:00:00Z') };
    expect(dueNow(every(HOUR_MS), due, now)).toEqual(now);
    expect(dueNow(every(HOUR_MS), due, at('2026-11-20T11:30:00Z'))).toEqual(due.dueAt);
  });
});

describe('jitter', () => {
  test('is the same on every host, below its limit, and different for each job and time', () => {
    const due = at('2026-11-20T02:00:00Z');
    const ids = Array.from({ length: 200 }, (_, index) => `db${index}/nightly`);
    const jitters = ids.map((id) => jitterOf(id, due, 600_000));
    expect(ids.map((id) => jitterOf(id, due, 600_000))).toEqual(jitters);
    expect(Math.min(...jitters)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...jitters)).toBeLessThan(600_000);
    expect(new Set(jitters).size).toBeGreaterThan(190);
    expect(Math.max(...jitters) - Math.min(...jitters)).toBeGreaterThan(400_000);
    expect(jitterOf('db1/nightly', at('2026-11-21T02:00:00Z'), 600_000)).not.toBe(jitters[1]);
    expect(jitterOf('db1/nightly', due, 0)).toBe(0);
  });

  test('longer than the schedule’s step moves no run beyond the next due time', () => {
    const timetable = cron('*/5 * * * *', 24 * HOUR_MS);
    let due = firstDue(timetable, undefined, at('2026-11-20T10:00:00Z'), utc);
    for (let step = 0; step < 50 && due !== undefined; step += 1) {
      expect(due.fireAt.getTime() - due.dueAt.getTime()).toBeLessThan(5 * 60_000);
      const next = nextDue(timetable, due.dueAt, due.fireAt, utc);
      expect(next?.dueAt.getTime()).toBe(due.dueAt.getTime() + 5 * 60_000);
      due = next;
    }
  });
});
