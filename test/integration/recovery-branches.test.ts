import { afterAll, beforeAll, expect, test } from 'vitest';
import { targetAt, targetAtLsn } from '../../src/operations/recovery/recovery-target.ts';
import type { DirectoryRestoreOutcome, RecoveryRequest } from '../../src/operations/restore-directory.ts';
import { formatLsn, parseLsn } from '../../src/postgres/wal/lsn.ts';
import { Cluster } from '../support/cluster.ts';
import { errorOf } from '../support/destinations.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { backUpServer } from '../support/physical.ts';
import { NumberedLoad, restoreTo, type WrittenRow } from '../support/recovery-world.ts';
import { flushedLsn, startReceiving } from '../support/wal-receiving.ts';

const store = new MemoryStore();
let primary: Cluster;
let standby: Cluster;
/** Rows that both servers have, and that the old one alone has. */
let common: readonly WrittenRow[];
let lost: readonly WrittenRow[];
/** The old one’s, and the new one’s, which come later. */
let apart: readonly WrittenRow[];
let newer: readonly WrittenRow[];

beforeAll(async () => {
  primary = await Cluster.start({ initdb: ['--wal-segsize=1'], settings: { wal_keep_size: '200MB' } });
  await using receiving = startReceiving(primary, [store], { source: 'main', slot: 'main' });
  await receiving.streams();
  standby = await primary.standby({ wal_keep_size: '200MB' });
  await backUpServer(primary, [{ destination: { name: 'memory', store, needsDelete: false } }]);
  common = await written(primary, 50);
  const end = formatLsn(await flushedLsn(primary));
  await standby.until(`pg_last_wal_replay_lsn() >= '${end}'`);
  await standby.stop();
  // The standby has nothing of these, and takes over without them; the old one does not know.
  await standby.configure({ wal_keep_size: '200MB', primary_conninfo: '' });
  lost = await written(primary, 1_500);
  await standby.start();
  await standby.promote();
  await using other = startReceiving(standby, [store], { source: 'main', slot: 'main' });
  await other.streams();
  apart = await written(primary, 30);
  newer = await written(standby, 30);
  await receiving.archives(await flushedLsn(primary));
  await other.archives(await flushedLsn(standby));
  await receiving.stop();
  await other.stop();
});
afterAll(async () => {
  await standby[Symbol.asyncDispose]();
  await primary[Symbol.asyncDispose]();
});

async function written(cluster: Cluster, count: number): Promise<readonly WrittenRow[]> {
  const load = await NumberedLoad.start(cluster);
  await load.more(count);
  return load.stop();
}

function planned(
  target: RecoveryRequest['target'],
  changes: Partial<RecoveryRequest> = {},
): Promise<DirectoryRestoreOutcome> {
  return restoreTo(store, '/tmp/pgark-nowhere', target, {}, { ...changes, planOnly: true });
}

function amid(rows: readonly WrittenRow[]): WrittenRow & { readonly at: RecoveryRequest['target'] } {
  const row = rows[Math.floor(rows.length / 2)];
  if (row === undefined) throw new Error('nothing was written');
  return { ...row, at: targetAt(new Date(row.time), Number(row.time.slice(23, 26))) };
}

test('a moment before a failover is the same on each timeline', async () => {
  const { at } = amid(common);
  const [newest, older] = [await planned(at), await planned(at, { timeline: 1 })];
  expect([newest.recovery?.timeline, newest.warnings]).toEqual([2, []]);
  expect(newest.recovery?.stop).toEqual(older.recovery?.stop);
});

test('a moment at which only the old server was there is refused, with the timeline that has it', async () => {
  const { at, n, lsn } = amid(lost);
  const error = await errorOf(planned(at));
  expect(error).toMatchObject({
    code: 'outside-window',
    message: expect.stringMatching(
      /timeline 1 was the server’s: it holds transactions .* not on timeline 2, the newest/,
    ),
    hint: expect.stringContaining('--timeline 1 brings back'),
  });
  const { recovery } = await planned(at, { timeline: 1 });
  expect(recovery?.timeline).toBe(1);
  // Before the next commit.
  expect(recovery?.stop.lsn).toBeGreaterThanOrEqual(parseLsn(lsn));
  expect(recovery?.stop.lsn).toBeLessThan(parseLsn(lost.find((row) => row.n === n + 1)?.lsn ?? '0/0'));
  // Whoever names the other one gets what it began from.
  const named = await planned(at, { timeline: 2 });
  expect(named.recovery?.stop.lsn).toBeLessThan(recovery?.stop.lsn ?? 0n);
  expect(named.warnings).toEqual([]);
});

test('a moment at which both servers wrote is the new one’s, with a warning that names the other', async () => {
  for (const { at } of [amid(newer), amid(apart)]) {
    const { recovery, warnings } = await planned(at);
    expect(recovery?.timeline).toBe(2);
    expect(warnings).toEqual([
      expect.stringMatching(/^timeline 1 holds transactions .*: --timeline 1 brings them back/),
    ]);
  }
});

test('a position that both timelines have, and differently, is the new one’s, with a warning', async () => {
  const position = amid(newer).lsn;
  const { recovery, warnings } = await planned(targetAtLsn(position));
  expect(recovery?.timeline).toBe(2);
  expect(warnings).toEqual([expect.stringMatching(/^timeline 1 goes another way .* if .* is meant of that one/)]);
  expect((await planned(targetAtLsn(amid(common).lsn))).warnings).toEqual([]);
});

test('behind a base backup that was made since, what the failover lost is no longer told', async () => {
  await backUpServer(standby, [{ destination: { name: 'memory', store, needsDelete: false } }]);
  await using receiving = startReceiving(standby, [store], { source: 'main', slot: 'main' });
  const later = amid(await written(standby, 10));
  await receiving.archives(await flushedLsn(standby));
  await receiving.stop();
  const { recovery, warnings } = await planned(later.at);
  expect([recovery?.timeline, warnings]).toEqual([2, []]);
});
