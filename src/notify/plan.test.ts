import { describe, expect, test } from 'vitest';
import { type Changes, Desk, failureAt, hours, successAt } from '../../test/support/notification-desk.ts';
import { sampleMessages } from '../../test/support/notifications.ts';
import type { NotificationEvent, Problem } from './message.ts';

describe('what was overdue', () => {
  const overdueAt = (at: Date, changes: Changes = {}): Problem => ({
    ...sampleMessages.overdue,
    database: 'shop',
    storage: 'r2',
    at,
    ...changes,
  });
  const freshAt = (at: Date, changes: Changes = {}): NotificationEvent => {
    const { source, database, storage } = sampleMessages.success;
    return { event: 'resolved', of: 'overdue', source, database, storage, at, ...changes };
  };

  test('is over where it is fresh, whoever made the backup, and told anew when it is overdue anew', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack', { on: ['overdue', 'recovery'] })];
    for (const month of [0, 1]) {
      const hour = month * 24 * 30;
      expect(await desk.tell(channels, overdueAt(hours(hour)))).toEqual(['/slack ⚠ shop: backup overdue']);
      expect(await desk.tell(channels, freshAt(hours(hour + 1)))).toEqual([
        '/slack ✔ shop: backup is up to date again',
      ]);
      expect(await desk.tell(channels, freshAt(hours(hour + 2)))).toEqual([]);
    }
  });

  test('is not told to be over a second time after a success', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack', { on: ['overdue', 'recovery'] })];
    await desk.tell(channels, overdueAt(hours(0)));
    expect(await desk.tell(channels, successAt(hours(1)))).toHaveLength(1);
    const { state } = desk;
    expect(await desk.tell(channels, freshAt(hours(2)))).toEqual([]);
    expect(desk.state).toEqual(state);
  });

  test('is not over by backups that other jobs make, in another format, nor in another storage or of another database', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack', { on: ['overdue', 'recovery'] })];
    await desk.tell(channels, overdueAt(hours(0)), overdueAt(hours(0), { job: 'nightly' }));
    const others: readonly Changes[] = [{ job: 'server' }, { storage: 'nas' }, { database: 'crm' }, { source: 'crm' }];
    for (const changes of others) expect(await desk.tell(channels, freshAt(hours(1), changes))).toEqual([]);
    expect(await desk.tell(channels, freshAt(hours(2), { job: 'nightly' }))).toHaveLength(1);
    expect(desk.state.problems).toMatchObject([{ event: 'overdue' }]);
    expect(desk.state.problems[0]).not.toHaveProperty('job');
  });
});

describe('a ping', () => {
  test('is sent for every run, also for the same failure again', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('healthchecks')];
    const story: NotificationEvent[] = [
      { ...sampleMessages.start, at: hours(0) },
      failureAt(hours(0)),
      failureAt(hours(1)),
      successAt(hours(2)),
      successAt(hours(3)),
    ];
    const told: string[] = [];
    for (const event of story) told.push(...(await desk.tell(channels, event)));
    expect(told).toEqual([
      '/healthchecks/start',
      '/healthchecks/fail',
      '/healthchecks/fail',
      '/healthchecks',
      '/healthchecks',
    ]);
  });

  test('says fail, once, of a run that reached only some of its destinations', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('healthchecks')];
    const events = ['a', 'b', 'c', 'd'].map((storage, index) =>
      index % 2 === 0 ? failureAt(hours(0), 'store-full', { storage }) : successAt(hours(0), { storage }),
    );
    expect(await desk.tell(channels, ...events)).toEqual(['/healthchecks/fail']);
    expect(await desk.tell(channels, ...[...events].reverse())).toEqual(['/healthchecks/fail']);
  });

  test('that wants recoveries but no successes hears of the end of what it was told', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('healthchecks', { on: ['failure', 'recovery'] })];
    await desk.tell(channels, failureAt(hours(0)));
    expect(await desk.tell(channels, successAt(hours(1)))).toEqual(['/healthchecks']);
    expect(await desk.tell(channels, successAt(hours(2)))).toEqual([]);
  });

  test('is set to up by backups alone: whatever else passes, the last backup may have failed', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('healthchecks')];
    for (const of of ['drill_failed', 'verify_failed', 'prune_refused', 'suspicious', 'overdue'] as const) {
      expect(await desk.tell(channels, { ...sampleMessages[of], at: hours(0) })).toEqual(['/healthchecks/fail']);
      expect(await desk.tell(channels, failureAt(hours(1)))).toEqual(['/healthchecks/fail']);
      const { event: _, ...about } = sampleMessages[of];
      expect(await desk.tell(channels, { ...about, event: 'resolved', of, at: hours(2) })).toEqual([]);
      expect(await desk.tell(channels, successAt(hours(3)))).toEqual(['/healthchecks']);
    }
    expect(desk.state.problems).toEqual([]);
  });
});
