import { describe, expect, test } from 'vitest';
import { at, HistoryPlace, HOUR_MS, plan } from '../../test/support/protection.ts';
import { removeBackup } from '../repository/remove-backup.ts';
import { type BackupProtection, buildProtectionState, isOverdue, type ProtectionInputs } from './protection-state.ts';

function only(inputs: ProtectionInputs): BackupProtection {
  const { backups } = buildProtectionState(inputs);
  const [backup] = backups;
  if (backup === undefined || backups.length > 1) throw new Error(`${backups.length} lines of backups`);
  return backup;
}

describe('what is overdue', () => {
  test.each([
    ['before the next one is due', '2026-11-21T01:59:00Z', false],
    ['while the next one may still be at work', '2026-11-21T02:19:00Z', false],
    ['once the next one is later than a quarter of an hour and twice the last duration', '2026-11-21T02:21:00Z', true],
    ['days later', '2026-11-25T12:00:00Z', true],
  ])('a backup of each night is, %s: %s', async (_when, now, overdue) => {
    const place = new HistoryPlace(at(now));
    await place.backup(at('2026-11-20T02:00:00Z'), { minutes: 10 });
    const inputs = await place.inputs();
    expect(isOverdue(only(inputs), inputs.now)).toBe(overdue);
  });

  test('a newer backup ends it, whoever made it', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    await place.backup(at('2026-11-21T11:00:00Z'));
    const inputs = await place.inputs();
    expect(isOverdue(only(inputs), inputs.now)).toBe(false);
  });

  test('a backup of the future, which a wrong clock has named, does not end it', async () => {
    const place = new HistoryPlace(at('2026-11-25T12:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    await place.backup(at('2027-11-20T02:00:00Z'));
    const inputs = await place.inputs();
    expect(isOverdue(only(inputs), inputs.now)).toBe(true);
  });

  test('backups of the future alone do not make anybody wait until then who looks once', async () => {
    const place = new HistoryPlace(at('2026-11-25T12:00:00Z'));
    await place.backup(at('2027-11-20T02:00:00Z'));
    const inputs = await place.inputs({ watchedSince: undefined });
    expect(isOverdue(only(inputs), inputs.now)).toBe(true);
  });

  test('jitter is waited for', async () => {
    const place = new HistoryPlace(at('2026-11-21T02:50:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'), { minutes: 1 });
    const inputs = await place.inputs();
    const jittered = await place.inputs({ plans: [plan({ jitterMs: HOUR_MS })] });
    expect(isOverdue(only(inputs), inputs.now)).toBe(true);
    expect(isOverdue(only(jittered), inputs.now)).toBe(false);
  });

  test.each([
    ['2026-11-20T05:59:00Z', false],
    ['2026-11-20T06:01:00Z', true],
  ])('an age that the user allows counts instead of the schedule: %s', async (now, overdue) => {
    const place = new HistoryPlace(at(now));
    await place.backup(at('2026-11-20T02:00:00Z'));
    const inputs = await place.inputs({ plans: [plan({ maxAgeMs: 4 * HOUR_MS })] });
    expect(isOverdue(only(inputs), inputs.now)).toBe(overdue);
  });

  describe('where an age of 26 hours is allowed', () => {
    const maxAgeMs = 26 * HOUR_MS;
    const nightly = plan({ maxAgeMs });
    const weekly = plan({ format: 'physical', every: '0 3 * * 0', maxAgeMs });
    const byHand = plan({ format: 'directory', every: '', maxAgeMs });

    /** By when each line must have its next backup, on Wednesday at noon: a base of Sunday, a dump of this night. */
    async function deadlines(plans: ProtectionInputs['plans'], backups: Parameters<HistoryPlace['backup']>[] = []) {
      const place = new HistoryPlace(at('2026-11-18T12:00:00Z'));
      await place.backup(at('2026-11-15T03:00:00Z'), { format: 'physical', database: plans[1]?.database ?? 'shop' });
      await place.backup(at('2026-11-18T02:00:00Z'));
      for (const each of backups) await place.backup(...each);
      const state = buildProtectionState(await place.inputs({ plans, watchedSince: at('2026-11-18T12:00:00Z') }));
      return plans.map(({ format, database }) => {
        const line = state.backups.find((each) => each.format === format && each.database === database);
        return line?.expectation.kind === 'expected' ? line.expectation.by : undefined;
      });
    }

    test('nightly dumps keep it, and the weekly base is due by its schedule', async () => {
      expect(await deadlines([nightly, weekly])).toEqual([at('2026-11-19T04:00:00Z'), at('2026-11-22T03:20:00Z')]);
    });

    test('a weekly base that its server was asked for by another database is so too', async () => {
      const [dump, base] = await deadlines([nightly, { ...weekly, database: 'postgres' }]);
      expect([dump, base]).toEqual([at('2026-11-19T04:00:00Z'), at('2026-11-22T03:20:00Z')]);
    });

    test('no backup of another format makes up for one that a schedule asks for', async () => {
      const hourly = plan({ every: '1h', maxAgeMs });
      const nightlyBase = { ...weekly, schedules: nightly.schedules };
      const made: Parameters<HistoryPlace['backup']>[] = [[at('2026-11-18T11:00:00Z')]];
      expect(await deadlines([hourly, nightlyBase], made)).toEqual([
        at('2026-11-19T13:00:00Z'),
        at('2026-11-16T05:00:00Z'),
      ]);
    });

    test('what is made by hand beside scheduled dumps is not waited for', async () => {
      expect(await deadlines([nightly, byHand])).toEqual([at('2026-11-19T04:00:00Z'), undefined]);
      const made: Parameters<HistoryPlace['backup']>[] = [[at('2026-10-01T02:00:00Z'), { format: 'directory' }]];
      expect(await deadlines([nightly, byHand], made)).toEqual([at('2026-11-19T04:00:00Z'), undefined]);
    });

    test('what is made by hand keeps it where no schedule is close enough, each by the newest of all', async () => {
      const handmade = plan({ every: '', maxAgeMs });
      expect(await deadlines([handmade, weekly])).toEqual([at('2026-11-19T04:00:00Z'), at('2026-11-22T03:20:00Z')]);
      const made: Parameters<HistoryPlace['backup']>[] = [[at('2026-11-17T02:00:00Z'), { format: 'directory' }]];
      const by = at('2026-11-19T04:00:00Z');
      expect(await deadlines([handmade, { ...weekly, schedules: [] }, byHand], made)).toEqual([by, by, by]);
    });

    test('schedules that cannot keep it do not make it longer', async () => {
      const hour = (each: ReturnType<typeof plan>) => ({ ...each, maxAgeMs: HOUR_MS });
      const by = at('2026-11-18T03:00:00Z');
      expect(await deadlines([hour(nightly), hour(weekly)])).toEqual([by, by]);
    });

    test('a backup in a format that is no longer made meets it too', async () => {
      expect(await deadlines([byHand])).toEqual([at('2026-11-19T14:00:00Z')]);
      const made: Parameters<HistoryPlace['backup']>[] = [[at('2026-11-18T13:00:00Z')]];
      expect(await deadlines([byHand], made)).toEqual([at('2026-11-19T15:00:00Z')]);
    });
  });

  test('an interval counts from the start of the last backup', async () => {
    const place = new HistoryPlace(at('2026-11-20T08:14:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'), { minutes: 1 });
    const inputs = await place.inputs({ plans: [plan({ every: '6h' })] });
    expect(only(inputs).expectation).toMatchObject({ by: at('2026-11-20T08:15:00Z') });
  });

  test('what is backed up by hand only never is', async () => {
    const place = new HistoryPlace(at('2027-11-20T02:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    const inputs = await place.inputs({ plans: [plan({ every: '' })] });
    expect(only(inputs).expectation).toEqual({ kind: 'none' });
    expect(isOverdue(only(inputs), inputs.now)).toBe(false);
  });

  test.each([
    ['2026-11-20T02:14:00Z', false],
    ['2026-11-20T02:16:00Z', true],
  ])('a new database has until the first time of its schedule: %s', async (now, overdue) => {
    const place = new HistoryPlace(at(now));
    const inputs = await place.inputs({ watchedSince: at('2026-11-19T12:00:00Z') });
    expect(isOverdue(only(inputs), inputs.now)).toBe(overdue);
  });

  test('a database whose backups always failed stays overdue over restarts', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    await place.run('failed', at('2026-11-18T02:00:00Z'), at('2026-11-18T02:01:00Z'));
    await place.run('failed', at('2026-11-21T02:00:00Z'), at('2026-11-21T02:01:00Z'));
    const restarted = await place.inputs({ watchedSince: place.clock.now() });
    expect(isOverdue(only(restarted), restarted.now)).toBe(true);
  });

  test('a database that the newest run of its source has not met has until the next due time', async () => {
    const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'), { database: 'crm' });
    const watchedSince = new Date(0);
    const young = await place.inputs({ watchedSince });
    const [shop] = buildProtectionState(young).backups;
    expect(shop).toMatchObject({ database: 'shop', expectation: { by: at('2026-11-21T02:15:00Z') } });
    // It was there: the run met it, and failed.
    await place.run('failed', at('2026-11-19T02:00:00Z'), at('2026-11-19T02:01:00Z'));
    const [met] = buildProtectionState(await place.inputs({ watchedSince })).backups;
    expect(met).toMatchObject({ database: 'shop', expectation: { by: at('2026-11-20T02:15:00Z') } });
  });

  describe('in a format that the database has no backup in yet', () => {
    /** Nineteen nights in plain, the tenth of which failed; at ten a configuration with other jobs is in effect. */
    async function afterNights(said: { readonly format?: string | undefined } = { format: 'plain' }) {
      const place = new HistoryPlace(at('2026-11-20T10:00:00Z'));
      for (let night = 1; night <= 19; night += 1) {
        const start = new Date(at('2026-11-01T02:00:00Z').getTime() + night * 24 * HOUR_MS);
        if (night === 10) await place.run('failed', start, new Date(start.getTime() + 60_000));
        else await place.run('succeeded', start, new Date(start.getTime() + 60_000), said);
      }
      await place.backup(at('2026-11-20T02:00:00Z'));
      return place;
    }

    test('it is due at the next time of its schedule, whatever was made before, or failed, in another one', async () => {
      const place = await afterNights();
      const plans = [plan({ format: 'directory' }), plan({ format: 'physical', every: '0 3 * * 0' })];
      const { backups } = buildProtectionState(await place.inputs({ plans }));
      expect(backups).toMatchObject([
        { format: 'directory', lastAttempt: undefined, expectation: { by: at('2026-11-21T02:15:00Z') } },
        { format: 'physical', lastAttempt: undefined, expectation: { by: at('2026-11-22T03:15:00Z') } },
        { format: 'plain', lastAttempt: { outcome: 'succeeded' } },
      ]);
    });

    test('its own first failure counts, over restarts, and that of an earlier version of any format', async () => {
      const place = await afterNights();
      const plans = [plan({ format: 'directory' })];
      const failedAt = at('2026-11-18T22:00:00Z');
      await place.run('failed', failedAt, failedAt, { format: 'directory' });
      const [directory] = buildProtectionState(await place.inputs({ plans })).backups;
      expect(directory?.expectation).toMatchObject({ by: at('2026-11-19T02:15:00Z') });
      const other = await afterNights();
      await other.run('failed', failedAt, failedAt, { format: undefined });
      const [same] = buildProtectionState(await other.inputs({ plans })).backups;
      expect(same?.expectation).toEqual(directory?.expectation);
    });

    test('what an earlier version made in whichever format is no reason to have it earlier', async () => {
      const place = await afterNights({ format: undefined });
      const [directory] = buildProtectionState(await place.inputs({ plans: [plan({ format: 'directory' })] })).backups;
      expect(directory?.expectation).toMatchObject({ by: at('2026-11-21T02:15:00Z') });
    });

    test('other backups that go on being made give it no further time', async () => {
      const place = await afterNights();
      const plans = [plan(), plan({ format: 'physical', every: '0 3 * * 0' })];
      const watched = await place.inputs({ plans, watchedSince: at('2026-11-13T10:00:00Z') });
      expect(buildProtectionState(watched).backups[1]?.expectation).toMatchObject({ by: at('2026-11-15T03:15:00Z') });
      // Who looks once knows of the newest only that it did not have to be met yet.
      const once = await place.inputs({ plans, watchedSince: undefined });
      expect(buildProtectionState(once).backups[1]?.expectation).toMatchObject({ by: at('2026-11-22T03:15:00Z') });
    });
  });

  test('a storage that was never read becomes overdue like an empty one', async () => {
    const place = new HistoryPlace(at('2026-11-20T02:16:00Z'));
    const histories = new Map([['r2', undefined]]);
    const inputs = await place.inputs({ watchedSince: at('2026-11-19T12:00:00Z'), histories });
    expect(isOverdue(only(inputs), inputs.now)).toBe(true);
  });

  test('a backup that a host with a wrong clock dated into the future is as old as the store says', async () => {
    const place = new HistoryPlace(at('2026-11-22T12:00:00Z'));
    await place.backup(at('2027-11-20T02:00:00Z'), { minutes: 10, storeTime: at('2026-11-20T02:10:00Z') });
    const inputs = await place.inputs();
    expect(only(inputs).lastSuccess).toMatchObject({ startedAt: at('2026-11-20T02:00:00Z'), durationMs: 600_000 });
    expect(isOverdue(only(inputs), inputs.now)).toBe(true);
  });

  test.each([
    ['the night without a half past two: right after the gap', '2026-03-28T01:30:00Z', '2026-03-29T01:00:00Z'],
    ['the day after it', '2026-03-29T01:00:00Z', '2026-03-30T00:30:00Z'],
    ['the night with two of them: at the first', '2026-10-24T00:30:00Z', '2026-10-25T00:30:00Z'],
    ['and not at the second', '2026-10-25T00:30:00Z', '2026-10-26T01:30:00Z'],
  ])('clocks change in Berlin, and a backup is due once in %s', async (_when, last, due) => {
    const place = new HistoryPlace(at(last));
    await place.backup(at(last));
    const inputs = await place.inputs({ timezone: 'Europe/Berlin', plans: [plan({ every: '30 2 * * *' })] });
    expect(only(inputs).expectation).toMatchObject({ dueAt: at(due) });
  });
});

describe('attempts and runs', () => {
  test('a failure after the last success is the last attempt, with its error', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    await place.run('failed', at('2026-11-21T02:00:00Z'), at('2026-11-21T02:01:00Z'));
    const backup = only(await place.inputs());
    expect(backup.lastAttempt).toMatchObject({ at: at('2026-11-21T02:01:00Z'), outcome: 'failed' });
    expect(backup.lastAttempt?.error?.message).toBe('pg_dump was killed');
    expect(backup.lastSuccess?.endedAt).toEqual(at('2026-11-20T02:10:00Z'));
  });

  test('a failure in one format is no attempt in another, and no run in one goes on in another', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    await place.backup(at('2026-11-15T03:00:00Z'), { format: 'physical' });
    await place.run('failed', at('2026-11-21T02:00:00Z'), at('2026-11-21T02:01:00Z'), { format: 'physical' });
    const { id: runId } = await place.run('running', at('2026-11-21T12:00:00Z'), undefined, { format: 'physical' });
    const plans = [plan(), plan({ format: 'physical', every: '3d' })];
    const { backups } = buildProtectionState(await place.inputs({ plans }));
    expect(backups).toMatchObject([
      { format: 'plain', lastAttempt: { outcome: 'succeeded' }, running: undefined },
      {
        format: 'physical',
        lastAttempt: { outcome: 'failed' },
        nextRunAt: at('2026-11-24T02:00:00Z'),
        running: { runId },
      },
    ]);
  });

  test('a success after a failure is the last attempt', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    await place.run('failed', at('2026-11-19T02:00:00Z'), at('2026-11-19T02:01:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    expect(only(await place.inputs()).lastAttempt).toEqual({ at: at('2026-11-20T02:10:00Z'), outcome: 'succeeded' });
  });

  test('a run that met another one at work is no failed attempt', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    const error = { code: 'locked', message: 'held by another host', hint: 'wait', exit: 11 };
    await place.run('failed', at('2026-11-21T02:00:00Z'), at('2026-11-21T02:00:01Z'), { error });
    const state = buildProtectionState(await place.inputs());
    expect(state.backups[0]?.lastAttempt?.outcome).toBe('succeeded');
    expect(state.runs[0]?.counts.counts).toEqual({ succeeded: 1, failed: 0, interrupted: 0, locked: 1 });
  });

  test('a success whose backup is gone protects nothing', async () => {
    const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
    const manifest = await place.backup(at('2026-11-20T02:00:00Z'));
    await removeBackup(place.repository, manifest);
    expect(only(await place.inputs())).toMatchObject({
      lastSuccess: undefined,
      lastAttempt: undefined,
      backupCount: 0,
    });
  });

  test('a run whose lease lives is running, with the progress that its process knows', async () => {
    const place = new HistoryPlace(at('2026-11-20T02:00:00Z'));
    const record = await place.run('running', place.clock.now());
    const lease = await place.leasesOf(record.id).acquire('shop/shop');
    await place.clock.advance(5 * HOUR_MS);
    const inputs = await place.inputs({ progressRatios: new Map([[record.id as string, 1.2]]) });
    expect(only(inputs).running).toMatchObject({ runId: record.id, progressRatio: 1 });
    await lease.release();
  });

  test('a run whose process was killed is interrupted once its lease is dead, not running for ever', async () => {
    const place = new HistoryPlace(at('2026-11-20T02:00:00Z'));
    const record = await place.run('running', place.clock.now());
    await place.leasesOf(record.id).acquire('shop/shop');
    // Nobody renews it from here on.
    place.clock.stopFor(5 * 60_000);
    const state = buildProtectionState(await place.inputs());
    expect(state.running).toEqual([]);
    expect(state.backups[0]?.lastAttempt).toEqual({ at: at('2026-11-20T02:00:00Z'), outcome: 'interrupted' });
    expect(state.runs[0]?.counts.counts.interrupted).toBe(1);
  });

  test('a run between its record and its lease, or between its release and its last record, is not called dead', async () => {
    const place = new HistoryPlace(at('2026-11-20T02:00:00Z'));
    const record = await place.run('running', place.clock.now());
    await place.clock.advance(10_000);
    expect(only(await place.inputs()).running?.runId).toBe(record.id);
    const lease = await place.leasesOf(record.id).acquire('shop/shop');
    await place.clock.advance(3 * HOUR_MS);
    await lease.release();
    await place.clock.advance(10_000);
    expect(only(await place.inputs()).running?.runId).toBe(record.id);
  });

  test('a restore, which holds no lease, is believed for a day', async () => {
    const place = new HistoryPlace(at('2026-11-20T02:00:00Z'));
    await place.run('running', place.clock.now(), undefined, { kind: 'restore' });
    place.clock.stopFor(23 * HOUR_MS);
    expect(buildProtectionState(await place.inputs()).running).toHaveLength(1);
    place.clock.stopFor(2 * HOUR_MS);
    expect(buildProtectionState(await place.inputs()).running).toEqual([]);
  });

  test('backups that nobody plans any more are shown, and not expected', async () => {
    const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'), { source: 'old', database: 'old', bytes: 7 });
    const { backups } = buildProtectionState(await place.inputs());
    expect(backups.map(({ source, storedBytes, expectation }) => [source, storedBytes, expectation.kind])).toEqual([
      ['shop', 0, 'expected'],
      ['old', 7, 'none'],
    ]);
  });

  test.each([
    ['0 2 * * *', '2026-11-21T02:00:00Z'],
    ['12h', '2026-11-20T14:00:00Z'],
    ['1h', '2026-11-20T12:00:00Z'],
  ])('the next run of %s is told', async (every, next) => {
    const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    expect(only(await place.inputs({ plans: [plan({ every })] })).nextRunAt).toEqual(at(next));
  });
});
