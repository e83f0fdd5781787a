import { afterAll, beforeAll, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { Secret } from '../../src/common/secret.ts';
import { putTimelineHistory, putWalDelta } from '../../src/formats/wal/store-piece.ts';
import { operationContext } from '../../src/operations/context.ts';
import { Repository } from '../../src/repository/repository.ts';
import { timelineOfNewestBase } from '../../src/operations/recovery/archive-of.ts';
import { randomPoint } from '../../src/operations/recovery/random-point.ts';
import { targetAt, targetAtLsn } from '../../src/operations/recovery/recovery-target.ts';
import type { DirectoryRestoreOutcome, RecoveryRequest } from '../../src/operations/restore-directory.ts';
import { recoveryTimelines } from '../../src/operations/wal/recovery-window.ts';
import { type WalStatus, type WalStatusRequest, walStatus } from '../../src/operations/wal/status.ts';
import { opensslSealer } from '../../src/pipeline/encryption/openssl-sealer.ts';
import { formatLsn, parseLsn } from '../../src/postgres/wal/lsn.ts';
import { segmentAt } from '../../src/postgres/wal/segment.ts';
import { keys } from '../../src/repository/keys.ts';
import type { WalRecord } from '../../src/repository/wal-record.ts';
import { Cluster } from '../support/cluster.ts';
import { errorOf } from '../support/destinations.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { bytesOf } from '../support/streams.ts';
import { backUpServer, manifestOf, restoreServer } from '../support/physical.ts';
import { fetchFrom, NumberedLoad, restoreTo, type WrittenRow } from '../support/recovery-world.ts';
import { madeSegment } from '../support/wal-bytes.ts';
import { pieceOf } from '../support/wal-pieces.ts';
import { flushedLsn, NO_KEYS, startReceiving } from '../support/wal-receiving.ts';

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

test('the end is the new one’s, which went on longer, with a warning that names the other', async () => {
  const { recovery, warnings } = await planned({ kind: 'end' });
  expect(recovery?.timeline).toBe(2);
  expect(warnings).toEqual([expect.stringMatching(/^timeline 1 holds transactions .*: --timeline 1 brings them back/)]);
});

test('a timeline that was left is told of, whatever of it lies behind a delta that is missing', async () => {
  const { systemIdentifier } = await facts();
  const place = { store, folder: { source: 'main', systemIdentifier }, sealer: undefined, keys: NO_KEYS };
  const { number } = segmentAt(1, parseLsn(apart.at(-1)?.lsn ?? ''), MIB);
  const next = { timeline: 1, number: number + 1n };
  const strayKey = await putWalDelta(place, pieceOf(next, madeSegment(next), 8_000, 20_000));
  const { warnings } = await planned({ kind: 'end' });
  expect(warnings).toEqual([expect.stringMatching(/^timeline 1 holds transactions .*: --timeline 1 brings them back/)]);
  await store.delete(strayKey);
});

test('the end is not that of a timeline of which only the beginning is archived', async () => {
  const { systemIdentifier } = await facts();
  const place = { store, folder: { source: 'main', systemIdentifier } };
  const end = common.at(-1)?.lsn ?? '';
  const history = Buffer.from(`1\t${end}\tno recovery target specified\n`);
  for (const name of ['00000008.history', '00000009.history']) await putTimelineHistory(place, name, history);
  // What is encrypted for somebody else is not on the way, and keeps nobody from anything.
  const sealer = await opensslSealer({ passphrase: new Secret('a passphrase that only the copy has') });
  const segment = segmentAt(8, parseLsn(end), MIB);
  const strange = pieceOf(segment, madeSegment(segment), 0, MIB - 1);
  const strangeKey = await putWalDelta({ ...place, sealer, keys: NO_KEYS }, strange);
  const error = await errorOf(planned({ kind: 'end' }));
  expect(error).toMatchObject({
    code: 'outside-window',
    message: expect.stringMatching(/^timeline 2 holds .*; timeline 9, the newest, goes another way .* has none there$/),
    hint: expect.stringContaining('--timeline 2 brings back'),
  });
  expect((await planned({ kind: 'end' }, { timeline: 9 })).recovery?.timeline).toBe(9);
  await store.delete(strangeKey);
  const stray = [...store.objects.keys()].filter((key) => /\/0000000[89]\.history/.test(key));
  for (const key of stray) await store.delete(key);
});

test('behind a base backup that was made since, what the failover lost is no longer told', async () => {
  await backUpServer(standby, [{ destination: { name: 'memory', store, needsDelete: false } }]);
  await using receiving = startReceiving(standby, [store], { source: 'main', slot: 'main' });
  const later = amid(await written(standby, 10));
  await receiving.archives(await flushedLsn(standby));
  await receiving.stop();
  for (const target of [later.at, { kind: 'end' } as const]) {
    const { recovery, warnings } = await planned(target);
    expect([recovery?.timeline, warnings]).toEqual([2, []]);
  }
});

test('behind a gap, where nothing was committed yet, what came before it tells which server went on', async () => {
  const copy = new MemoryStore();
  for (const key of store.objects.keys()) await copy.putSmall(key, await bytesOf((await store.get(key)).body));
  // Nobody receives it, and it commits nothing.
  await standby.sql(`select pg_logical_emit_message(false, 'gap', repeat('x', 1 << 20)) from generate_series(1, 3)`);
  await backUpServer(standby, [{ destination: { name: 'copy', store: copy, needsDelete: false } }]);
  const { recovery, warnings } = await restoreTo(copy, '/tmp/pgark-nowhere', { kind: 'end' }, {}, { planOnly: true });
  expect([recovery?.timeline, warnings]).toEqual([2, []]);
});

test('the end is refused where the newest timeline is that of a server which ended while the other one went on', async () => {
  await using receiving = startReceiving(primary, [store], { source: 'main', slot: 'main' });
  const later = await written(primary, 10);
  await receiving.archives(await flushedLsn(primary));
  await receiving.stop();
  const error = await errorOf(planned({ kind: 'end' }));
  expect(error).toMatchObject({
    code: 'outside-window',
    message: expect.stringMatching(
      /^timeline 1 holds .*; timeline 2, the newest, goes another way .* ends with one of /,
    ),
    hint: expect.stringMatching(/^--timeline 1 brings back .*; --timeline 2 goes to the end/),
  });
  const { recovery } = await planned({ kind: 'end' }, { timeline: 1 });
  expect(recovery?.timeline).toBe(1);
  expect(recovery?.stop.lsn).toBeGreaterThan(parseLsn(later.at(-2)?.lsn ?? '0/0'));
  expect((await planned({ kind: 'end' }, { timeline: 2 })).recovery?.timeline).toBe(2);
  // A drill tries the timeline that its own base backup is on.
  const [reference] = (await new Repository(store, operationContext()).backups()).manifests.slice(-1);
  const access = { store, keys: NO_KEYS, signal: new AbortController().signal };
  expect(reference && (await timelineOfNewestBase(reference, access, operationContext()))).toMatchObject({
    manifest: { id: reference?.id },
    timeline: 2,
    isBeside: false,
  });
  // Which one it is nobody has said yet: it is the newest, and what speaks against that is told.
  const status = await facts();
  expect(status.followed?.timeline).toBe(2);
  expect(status.warnings).toEqual([
    expect.stringMatching(/^WAL of timeline 1 was stored later than that of timeline 2/),
  ]);
});

test('with a base backup of the other server the newest timeline is followed by nothing that was not told to', async () => {
  const outcome = await backUpServer(primary, [{ destination: { name: 'memory', store, needsDelete: false } }]);
  const { id } = manifestOf(outcome);
  await using other = startReceiving(standby, [store], { source: 'main', slot: 'main' });
  const [copied] = await written(standby, 10);
  await other.archives(await flushedLsn(standby));
  await other.stop();
  // Its last transaction is the latest, and its timeline the newest.
  const error = await errorOf(planned({ kind: 'end' }));
  expect(error).toMatchObject({
    code: 'outside-window',
    message: expect.stringMatching(`^${id}, the newest base backup, of timeline 1, is not on the way to timeline 2`),
    hint: expect.stringMatching(/^--timeline 1 goes on from the newest base backup; --timeline 2 /),
  });
  const { recovery } = await planned({ kind: 'end' }, { timeline: 1 });
  expect(recovery?.base.manifest.id).toBe(id);

  const [newest] = await recoveryTimelines({ store, source: 'main' }, operationContext());
  expect(newest?.wal.followed?.timeline).toBe(1);
  expect(newest?.wal.warnings).toEqual([expect.stringMatching(`^timeline 2, the newest .* is not looked at: ${id}`)]);
  expect(newest?.windows.at(-1)?.bases.at(-1)?.id).toBe(id);
  expect(newest?.windows.at(-1)?.latest.getTime()).toBeLessThan(Date.parse(copied?.time ?? ''));
  const { systemIdentifier } = await facts();
  expect((await facts({ systemIdentifier, timeline: 2 })).followed?.timeline).toBe(2);

  // What drills try, too.
  const access = { store, keys: NO_KEYS, signal: new AbortController().signal };
  const reference = manifestOf(outcome);
  expect(await timelineOfNewestBase(reference, access, operationContext())).toEqual({
    manifest: reference,
    timeline: 1,
    isBeside: true,
  });
  const context = operationContext();
  const point = await randomPoint(reference, 1, access, {
    ...context,
    random: { ...context.random, fraction: () => 0.999 },
  });
  expect(point).toMatchObject({ kind: 'lsn' });
  const drilled = await planned(point, { timeline: 1 });
  expect(drilled.recovery?.base.manifest.id).toBe(id);
});

test('of a base backup that is named the others say which timeline is meant, as far as they can be read', async () => {
  const { bases } = await facts();
  const [first, last] = [bases.at(0)?.manifest, bases.at(-1)?.manifest];
  if (first === undefined || last === undefined) throw new Error('there is no base backup');
  const toEnd = (): Promise<DirectoryRestoreOutcome> =>
    restoreServer(store, '/tmp/pgark-nowhere', {
      selector: { kind: 'name', name: first.id },
      recovery: { target: { kind: 'end' }, fetch: fetchFrom({}) },
      planOnly: true,
    });
  expect(await errorOf(toEnd())).toMatchObject({ code: 'outside-window', message: expect.stringContaining(last.id) });
  // A damaged one keeps nobody from restoring another one.
  await store.putSmall(keys.manifest('main', last.database.name, last.id), Buffer.from('{'));
  const { recovery, warnings } = await toEnd();
  expect([recovery?.base.manifest.id, recovery?.timeline]).toEqual([first.id, 2]);
  expect(warnings).toEqual([expect.stringMatching(/^timeline 1 holds transactions/)]);
});

async function facts(
  received?: WalStatusRequest['received'],
): Promise<WalStatus & Pick<WalRecord, 'systemIdentifier'>> {
  const [status] = await walStatus({ store, source: 'main', received }, operationContext());
  if (status === undefined) throw new Error('nothing is archived');
  return { ...status, systemIdentifier: status.record.systemIdentifier };
}
