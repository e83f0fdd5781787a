import { describe, expect, test } from 'vitest';
import { at, HistoryPlace, HOUR_MS } from '../../test/support/protection.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { makeRunId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import { compactRuns } from '../runs/compact-runs.ts';
import { encodeCompactedRuns } from '../runs/compacted-runs.ts';
import type { RunRecord } from '../runs/run-record.ts';
import { groupKey } from './run-tally.ts';
import type { StorageHistory } from './storage-history.ts';

const backupsOfShop = groupKey({ kind: 'backup', source: 'shop', database: 'shop' });

function counts(history: StorageHistory) {
  return history.tally.groups.get(backupsOfShop)?.counts;
}

/** Keys that are read while `work` goes on. */
async function readsDuring(place: HistoryPlace, work: () => Promise<unknown>): Promise<string[]> {
  const read: string[] = [];
  const get = place.store.get.bind(place.store);
  place.store.get = (key, options) => {
    read.push(key);
    return get(key, options);
  };
  await work();
  place.store.get = get;
  return read;
}

describe('the history of a storage', () => {
  test('is the same whether it is read at once or bit by bit', async () => {
    const place = new HistoryPlace(at('2026-11-18T03:00:00Z'));
    let history = await place.history();
    for (let day = 0; day < 5; day += 1) {
      const start = place.clock.now();
      if (day === 2) await place.run('failed', start, new Date(start.getTime() + 60_000));
      else await place.backup(start, { minutes: day + 1, bytes: day });
      place.clock.stopFor(12 * HOUR_MS);
      history = await place.history(history);
      place.clock.stopFor(12 * HOUR_MS);
      history = await place.history(history);
    }
    const atOnce = await place.history();
    expect(counts(history)).toEqual({ succeeded: 4, failed: 1, interrupted: 0, locked: 0 });
    expect(history.tally).toEqual(atOnce.tally);
    expect(new Map(history.backups)).toEqual(new Map(atOnce.backups));
  });

  test('sums durations to the same in whichever order they were read', async () => {
    const place = new HistoryPlace(at('2026-11-20T03:00:00Z'));
    let history = await place.history();
    for (const ms of [100, 200, 300, 1_700]) {
      const start = place.clock.now();
      await place.run('succeeded', start, new Date(start.getTime() + ms));
      place.clock.stopFor(HOUR_MS);
      history = await place.history(history);
    }
    expect((await place.history()).tally).toEqual(history.tally);
  });

  test('counts every run of a month after a restart, however many there were', async () => {
    const place = new HistoryPlace(at('2026-11-28T00:00:00Z'));
    const template = await place.run('succeeded', at('2026-11-27T00:00:00Z'), at('2026-11-27T00:00:01Z'));
    const runs: RunRecord[] = [];
    // Three databases, each quarter of an hour, with globals and prunes; of these the first of each day of the first week failed.
    for (let quarter = 0; quarter < 26 * 96; quarter += 1) {
      const startedAt = new Date(at('2026-11-01T00:00:00Z').getTime() + (quarter * HOUR_MS) / 4);
      const endedAt = new Date(startedAt.getTime() + 1_000).toISOString();
      for (const [index, database] of ['shop', 'crm', 'stock'].entries()) {
        const isFailed = index === 0 && quarter % 96 === 0 && quarter < 7 * 96;
        const made = { ...template, startedAt: startedAt.toISOString(), endedAt };
        const whole = { ...made, source: undefined, database: undefined };
        runs.push({ ...made, id: makeRunId(startedAt, systemRandom), database });
        runs.push({ ...made, id: makeRunId(startedAt, systemRandom), kind: 'globals', database: undefined });
        const prune = { ...whole, id: makeRunId(startedAt, systemRandom), kind: 'prune' } as const;
        runs.push({ ...prune, state: isFailed ? 'failed' : 'succeeded' });
      }
    }
    expect(runs.length).toBeGreaterThan(20_000);
    const bytes = await encodeCompactedRuns('2026-11', { sources: [], runs });
    await place.store.putSmall(keys.compactedRuns('2026-11', makeRunId(place.clock.now(), systemRandom)), bytes);
    const restarted = await place.history();
    expect(counts(restarted)).toMatchObject({ succeeded: 26 * 96 + 1 });
    expect(restarted.tally.groups.get(groupKey({ kind: 'prune' }))?.counts).toMatchObject({
      succeeded: 26 * 96 * 3 - 7,
      failed: 7,
    });
  });

  test('reads what it knows no second time', async () => {
    const place = new HistoryPlace(at('2026-11-20T03:00:00Z'));
    await place.backup(at('2026-11-20T02:00:00Z'));
    const history = await place.history();
    const another = await place.backup(at('2026-11-20T02:30:00Z'));
    const read = await readsDuring(place, () => place.history(history));
    expect(read.sort()).toEqual([
      keys.manifest('shop', 'shop', another.id),
      expect.stringContaining(`${keys.runsPrefix}2026-11/`),
    ]);
  });

  test('reads the proofs of the newest backups, and again after a quarter of an hour or when there are new ones', async () => {
    const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
    const older = await place.backup(at('2026-11-19T02:00:00Z'));
    const newest = await place.backup(at('2026-11-20T02:00:00Z'));
    for (const backup of [older, newest]) {
      await place.prove(backup, 'verify', at('2026-11-20T05:00:00Z'), { passed: false });
    }
    const first = await place.history();
    expect([...first.proofs.keys()]).toEqual([newest.id]);
    await place.prove(newest, 'verify', place.clock.now(), { passed: true });
    const listed: string[] = [];
    const list = place.store.list.bind(place.store);
    place.store.list = (prefix, options) => {
      listed.push(prefix);
      return list(prefix, options);
    };
    const again = await place.history(first);
    expect(listed.filter((prefix) => prefix.startsWith(keys.proofsPrefix))).toEqual([]);
    expect(again.proofs.get(newest.id)?.verify?.passed).toBe(false);
    const told = await place.history(again, { hasNewProofs: true });
    expect(told.proofs.get(newest.id)?.verify?.passed).toBe(true);
    place.clock.stopFor(HOUR_MS / 4);
    expect((await place.history(again)).proofs.get(newest.id)?.verify?.passed).toBe(true);
  });

  test('a run that goes on is looked at again until it is over, and counted once', async () => {
    const place = new HistoryPlace(at('2026-11-10T02:00:00Z'));
    const record = await place.run('running', place.clock.now());
    let history = await place.history();
    expect(history.openRuns).toHaveLength(1);
    for (let hours = 0; hours < 5; hours += 1) {
      place.clock.stopFor(24 * HOUR_MS);
      history = await place.history(history);
    }
    await place.write({ ...record, state: 'succeeded', endedAt: place.clock.now().toISOString() });
    history = await place.history(await place.history(history));
    expect(history.openRuns).toEqual([]);
    expect(counts(history)?.succeeded).toBe(1);
  });

  test('counters begin anew with the month, at the same moment in every process', async () => {
    const place = new HistoryPlace(at('2026-11-30T23:59:00Z'));
    await place.run('failed', at('2026-11-30T23:00:00Z'), at('2026-11-30T23:30:00Z'));
    const overMidnight = await place.run('running', at('2026-11-30T23:58:30Z'));
    const november = await place.history();
    expect(counts(november)?.failed).toBe(1);
    place.clock.stopFor(HOUR_MS);
    await place.write({ ...overMidnight, state: 'succeeded', endedAt: '2026-12-01T00:10:00.000Z' });
    await place.run('failed', at('2026-12-01T00:20:00Z'), at('2026-12-01T00:30:00Z'));
    const [going, restarted] = [await place.history(november), await place.history()];
    expect(going.tally.countedSince).toEqual(at('2026-12-01T00:00:00Z'));
    expect(counts(going)).toEqual({ succeeded: 1, failed: 1, interrupted: 0, locked: 0 });
    expect(restarted.tally).toEqual(going.tally);
  });

  test('remembers the last failure from before the month', async () => {
    const place = new HistoryPlace(at('2026-12-01T12:00:00Z'));
    await place.run('failed', at('2026-11-15T02:00:00Z'), at('2026-11-15T02:05:00Z'));
    const { tally } = await place.history();
    expect([...tally.failures.values()][0]?.last.at).toEqual(at('2026-11-15T02:05:00Z'));
    expect(counts(await place.history())).toBeUndefined();
  });

  test('counts manifests and passes over records that cannot be read', async () => {
    const place = new HistoryPlace(at('2026-11-20T03:00:00Z'));
    const { id } = await place.backup(at('2026-11-20T02:00:00Z'));
    await place.backup(at('2026-11-20T02:30:00Z'));
    await place.run('failed', at('2026-11-20T02:50:00Z'), at('2026-11-20T02:51:00Z'));
    await place.store.putSmall(keys.manifest('shop', 'shop', id), Buffer.from('{'));
    const [firstRun] = [...place.store.objects.keys()].filter((key) => key.startsWith(keys.runsPrefix)).sort();
    await place.store.putSmall(firstRun ?? '', Buffer.from('[]'));
    const history = await place.history();
    expect(history).toMatchObject({ damagedManifests: 1 });
    expect(history.backups.size).toBe(1);
    expect(counts(history)).toMatchObject({ succeeded: 1, failed: 1 });
  });

  test('says the same when its runs have been compacted, and reads what was compacted once', async () => {
    const place = new HistoryPlace(at('2026-11-20T03:00:00Z'));
    for (let day = 1; day <= 20; day += 1) {
      const start = at(`2026-11-${String(day).padStart(2, '0')}T02:00:00Z`);
      await place.run(day % 7 === 0 ? 'failed' : 'succeeded', start, new Date(start.getTime() + 60_000 * day));
    }
    const before = await place.history();
    for (let hour = 0; hour < 2; hour += 1) {
      const now = place.clock.now();
      await compactRuns(place.store, { now, random: systemRandom, logger: silentLogger });
      place.clock.stopFor(2 * HOUR_MS);
    }
    const after = await place.history();
    expect(after.tally).toEqual(before.tally);
    expect((await place.history(before)).tally).toEqual(before.tally);
    expect(await readsDuring(place, () => place.history(after))).toEqual([]);
  });

  test('a store that fails leaves the previous history standing', async () => {
    const place = new HistoryPlace(at('2026-11-20T03:00:00Z'));
    const signal = AbortSignal.abort(new Error('cut'));
    const reading = place.history(undefined, { signal });
    await expect(reading).rejects.toThrow('cut');
  });
});
