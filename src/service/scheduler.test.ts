import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { silentLogger, type Logger } from '../common/log.ts';
import { type Fired, type RunNews, type ScheduledJob, Scheduler } from './scheduler.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

function cron(id: string, expression: string, change: Partial<ScheduledJob> = {}): ScheduledJob {
  return { id, schedule: { kind: 'cron', expression }, jitterMs: 0, last: undefined, ...change };
}

function every(id: string, everyMs: number, change: Partial<ScheduledJob> = {}): ScheduledJob {
  return { id, schedule: { kind: 'interval', everyMs }, jitterMs: 0, last: undefined, ...change };
}

interface Ran extends Fired {
  readonly startedAt: Date;
}

/** A scheduler over a clock that is turned by hand; each run takes `takesMs`, or ends when it is told to. */
function world(
  jobs: readonly ScheduledJob[],
  options: { readonly takesMs?: number; readonly news?: (fired: Fired) => RunNews; readonly start?: string } = {},
) {
  const clock = new ManualClock(new Date(options.start ?? '2026-11-20T10:00:30Z'));
  const ran: Ran[] = [];
  const events: string[] = [];
  const note = (event: string, message: string): void => void events.push(`${event}: ${message}`);
  const logger: Logger = { ...silentLogger, info: note, warning: note, error: note };
  const scheduler = new Scheduler({
    clock,
    logger,
    timezone: 'UTC',
    jobs,
    resumeAfterMs: 65_000,
    run: async (fired) => {
      ran.push({ ...fired, startedAt: clock.now() });
      if (options.takesMs !== undefined) await clock.sleep(options.takesMs);
      return options.news?.(fired) ?? {};
    },
  });
  scheduler.start();
  const starts = (id?: string): string[] =>
    ran.filter((each) => id === undefined || each.id === id).map((each) => each.startedAt.toISOString().slice(11, 19));
  return { clock, ran, events, scheduler, starts };
}

describe('the scheduler', () => {
  test('runs at the five-minute marks, and each once', async () => {
    const { clock, starts } = world([cron('a', '*/5 * * * *')]);
    await clock.advance(16 * MINUTE_MS);
    expect(starts()).toEqual(['10:05:00', '10:10:00', '10:15:00']);
  });

  test('runs several jobs at once, each by its own times', async () => {
    const { clock, starts } = world([cron('a', '*/5 * * * *'), every('b', 4 * MINUTE_MS)], { takesMs: 90_000 });
    await clock.advance(11 * MINUTE_MS);
    expect(starts('a')).toEqual(['10:05:00', '10:10:00']);
    expect(starts('b')).toEqual(['10:00:30', '10:04:30', '10:08:30']);
  });

  test('never runs a job beside itself: due times that come meanwhile are skipped, and said once', async () => {
    const { clock, starts, events } = world([cron('a', '* * * * *')], { takesMs: 210_000 });
    await clock.advance(5 * MINUTE_MS);
    expect(starts()).toEqual(['10:01:00', '10:05:00']);
    expect(events.filter((event) => event.startsWith('schedule.overlap'))).toHaveLength(1);
    expect(events).toContain('schedule.caught_up: a skipped 3 due times while it ran');
  });

  test('makes up once, late, for what was missed before the start', async () => {
    const last = { at: new Date('2026-11-17T02:00:00Z'), isOpen: false };
    const { clock, ran, starts, events } = world([cron('a', '0 2 * * *', { last })]);
    await clock.advance(17 * HOUR_MS);
    expect(starts()).toEqual(['10:00:30', '02:00:00']);
    expect(ran[0]?.dueAt.toISOString()).toBe('2026-11-18T02:00:00.000Z');
    expect(events.filter((event) => event.startsWith('schedule.late'))).toHaveLength(1);
  });

  test('makes up once for a machine that was suspended, at the latest a minute after it woke', async () => {
    const { clock, starts } = world([cron('a', '*/5 * * * *')]);
    await clock.advance(5 * MINUTE_MS);
    clock.suspendFor(3 * HOUR_MS);
    await clock.advance(MINUTE_MS);
    expect(starts()).toHaveLength(2);
    await clock.advance(4 * MINUTE_MS);
    expect(starts()).toHaveLength(3);
    expect(starts().at(-1)).toBe('13:10:00');
  });

  test('does not wait for a time again that a clock which was set back had shown already', async () => {
    const { clock, starts, events } = world([cron('a', '*/5 * * * *')]);
    await clock.advance(5 * MINUTE_MS);
    clock.suspendFor(-HOUR_MS);
    await clock.advance(6 * MINUTE_MS);
    expect(starts()).toEqual(['10:05:00', '09:10:00']);
    expect(events.some((event) => event.startsWith('schedule.clock_set_back'))).toBe(true);
  });

  test('goes on with an interval from where another host is with it', async () => {
    const { clock, starts } = world([every('a', 10 * MINUTE_MS)], {
      news: ({ dueAt }) => ({ last: new Date(dueAt.getTime() - 2 * MINUTE_MS) }),
    });
    await clock.advance(15 * MINUTE_MS);
    expect(starts()).toEqual(['10:00:30', '10:08:30']);
  });

  test('does a run anew that was begun and never ended, when its process is known to be dead', async () => {
    const last = { at: new Date('2026-11-20T02:00:00Z'), isOpen: true };
    const { clock, ran, starts } = world([cron('a', '0 2 * * *', { last })]);
    await clock.advance(64_000);
    expect(ran).toEqual([]);
    await clock.advance(2_000);
    expect(starts()).toEqual(['10:01:35']);
    expect(ran[0]).toMatchObject({ dueAt: last.at, resumes: true });
    await clock.advance(16 * HOUR_MS);
    expect(ran[1]).toMatchObject({ dueAt: new Date('2026-11-21T02:00:00Z'), resumes: false });
  });

  test('leaves a run that never ended to the next due time where that comes first', async () => {
    const last = { at: new Date('2026-11-20T10:00:00Z'), isOpen: true };
    const { clock, ran } = world([cron('a', '* * * * *', { last })]);
    await clock.advance(MINUTE_MS);
    expect(ran).toMatchObject([{ dueAt: new Date('2026-11-20T10:01:00Z'), resumes: false }]);
  });

  describe('told later when a job was due last, since nobody could be asked', () => {
    const due = (id: string, change: Partial<ScheduledJob> = {}): ScheduledJob => cron(id, '0 2 * * *', change);
    const unknown = { last: 'unknown' } as const;
    const lastNight = { last: { at: new Date('2026-11-19T02:00:00Z'), isOpen: false } };

    test('makes up for what was missed, once', async () => {
      const { clock, scheduler, ran, starts, events } = world([due('a', unknown), due('b', unknown), due('c')]);
      await clock.advance(2 * MINUTE_MS);
      expect([...scheduler.unknown]).toEqual(['a', 'b']);
      scheduler.tell([due('a', lastNight), due('b', unknown), due('c', lastNight)]);
      await clock.advance(MINUTE_MS);
      expect(starts()).toEqual(['10:02:30']);
      expect(ran).toMatchObject([{ id: 'a', dueAt: new Date('2026-11-20T02:00:00Z'), resumes: false }]);
      expect(events.filter((event) => event.startsWith('schedule.late'))).toHaveLength(1);
      scheduler.tell([due('a', lastNight), due('b', { last: undefined })]);
      expect(scheduler.unknown.size).toBe(0);
      await clock.advance(MINUTE_MS);
      expect(ran).toHaveLength(1);
    });

    test('does anew what was begun and never ended, when its process is known to be dead', async () => {
      const { clock, scheduler, ran, starts } = world([due('a', unknown)]);
      await clock.advance(MINUTE_MS);
      const last = { at: new Date('2026-11-20T02:00:00Z'), isOpen: true };
      scheduler.tell([due('a', { last })]);
      await clock.advance(2 * MINUTE_MS);
      expect(starts()).toEqual(['10:02:35']);
      expect(ran).toMatchObject([{ dueAt: last.at, resumes: true }]);
    });

    test('leaves alone what has begun without being told', async () => {
      const { clock, scheduler, starts } = world([cron('a', '*/5 * * * *', unknown), every('b', HOUR_MS, unknown)]);
      await clock.advance(5 * MINUTE_MS);
      expect(scheduler.unknown.size).toBe(0);
      scheduler.tell([cron('a', '*/5 * * * *', lastNight), every('b', HOUR_MS, lastNight)]);
      await clock.advance(2 * MINUTE_MS);
      expect([starts('a'), starts('b')]).toEqual([['10:05:00'], ['10:00:30']]);
    });

    test('learns it from other jobs that are taken, too, and forgets not that it knows nothing', async () => {
      const { clock, scheduler, starts } = world([due('a', unknown), due('b', unknown), due('c')]);
      scheduler.replace([due('a', lastNight), due('b', unknown), due('c', unknown)], 'UTC');
      expect([...scheduler.unknown]).toEqual(['b']);
      scheduler.replace([due('a', unknown), due('b', unknown), cron('c', '0 3 * * *', unknown)], 'UTC');
      expect([...scheduler.unknown]).toEqual(['b', 'c']);
      scheduler.tell([due('b', lastNight), cron('c', '0 3 * * *', lastNight)]);
      await clock.advance(MINUTE_MS);
      expect([starts('a'), starts('b'), starts('c')]).toEqual([['10:00:30'], ['10:00:30'], ['10:00:30']]);
    });
  });

  test('takes other jobs: what is the same keeps its time, what runs is not begun again', async () => {
    const { clock, scheduler, starts } = world([every('a', 5 * MINUTE_MS), every('b', 5 * MINUTE_MS)], {
      takesMs: MINUTE_MS,
    });
    await clock.advance(30_000);
    scheduler.replace([every('a', 5 * MINUTE_MS), every('b', 2 * MINUTE_MS), cron('c', '*/4 * * * *')], 'UTC');
    await clock.advance(6 * MINUTE_MS);
    expect(starts('a')).toEqual(['10:00:30', '10:05:30']);
    expect(starts('b')).toEqual(['10:00:30', '10:02:30', '10:04:30', '10:06:30']);
    expect(starts('c')).toEqual(['10:04:00']);
  });

  test('works due times out anew where the time zone has changed', async () => {
    const last = { at: new Date('2026-11-20T02:00:00Z'), isOpen: false };
    const jobs = [cron('a', '0 12 * * *', { last })];
    const { clock, scheduler, starts } = world(jobs);
    scheduler.replace(jobs, 'Europe/Berlin');
    await clock.advance(2 * HOUR_MS);
    expect(starts()).toEqual(['11:00:00']);
  });

  test('stops: begins nothing more, and waits for what runs', async () => {
    const { clock, scheduler, starts } = world([every('a', MINUTE_MS)], { takesMs: 40_000 });
    await clock.advance(10_000);
    let stopped = false;
    const stopping = scheduler.stop().then(() => {
      stopped = true;
    });
    await clock.advance(20_000);
    expect(stopped).toBe(false);
    await clock.advance(20_000);
    await stopping;
    await clock.advance(10 * MINUTE_MS);
    expect(starts()).toEqual(['10:00:30']);
    expect(scheduler.running).toEqual([]);
  });
});
