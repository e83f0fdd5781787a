import { afterAll, beforeAll, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { operationContext } from '../../src/operations/context.ts';
import { targetAt, targetAtLsn } from '../../src/operations/recovery/recovery-target.ts';
import { recoveryTimelines } from '../../src/operations/wal/recovery-window.ts';
import { fetchWal } from '../../src/operations/wal/fetch.ts';
import { formatLsn } from '../../src/postgres/wal/lsn.ts';
import { segmentStartAt } from '../../src/postgres/wal/segment.ts';
import { DEFAULT_PREFIX } from '../support/archived-server.ts';
import type { Cluster } from '../support/cluster.ts';
import { flipBit } from '../support/damage.ts';
import { errorOf } from '../support/destinations.ts';
import { drillIn, proofsIn, workFolder } from '../support/drills.ts';
import { impatientClock } from '../support/impatient-clock.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { backUpServer, ServerFolder } from '../support/physical.ts';
import { fetchFrom, restoreTo } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket } from '../support/s3.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import {
  Archived,
  dropSlots,
  flushedLsn,
  load,
  NO_KEYS,
  startReceiving,
  startWitnessed,
  walFolder,
} from '../support/wal-receiving.ts';

const PATIENCE = { timeout: 480_000 };
const PAGE_BYTES = 8192;
/** Where a page's head says its address. */
const ADDRESS_OFFSET = 8;

let witnessed: Awaited<ReturnType<typeof startWitnessed>>;
let cluster: Cluster;
beforeAll(async () => {
  witnessed = await startWitnessed();
  cluster = witnessed.cluster;
});
afterAll(() => witnessed[Symbol.asyncDispose]());

/** Nobody waits for long here. */
const clock = impatientClock(200);

test('WAL that is damaged on its way once is received again, and nothing of the damage is archived', async () => {
  const store = new MemoryStore();
  await using proxy = await startTcpProxy(cluster.connection);
  const connection = { ...cluster.connection, port: proxy.port };
  await using receiving = startReceiving(cluster, [store], { connection, clock });
  await cluster.sql(load(10));
  await receiving.archives(await flushedLsn(cluster));
  const start = segmentStartAt(await flushedLsn(cluster), MIB) + BigInt(MIB);
  // In the midst of the next segment, whatever lies in one chunk.
  const addresses = Array.from({ length: 40 }, (_, index) => {
    const address = Buffer.alloc(8);
    address.writeBigUInt64LE(start + BigInt((40 + index) * PAGE_BYTES));
    return address;
  });
  proxy.damage((chunk) => {
    const at = addresses.map((address) => chunk.indexOf(address)).find((found) => found >= ADDRESS_OFFSET);
    if (at === undefined) return false;
    flipBit(chunk, at - ADDRESS_OFFSET);
    return true;
  });
  await cluster.sql(load(2_500));
  const end = await flushedLsn(cluster);
  await receiving.archives(end);
  expect(proxy.hasDamaged).toBe(true);
  await cluster.until(
    `select last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - ${MIB}) from pg_stat_archiver`,
  );
  const archived = new Archived(store, await walFolder(cluster), MIB);
  expect(await archived.expectAsWitness(witnessed.witness)).toBeGreaterThanOrEqual(2);
  expect((await archived.onlyStretch()).to).toBeGreaterThanOrEqual(end);
  await receiving.stop();
  await dropSlots(cluster);
});

test(
  'WAL whose part in the midst is gone is a gap, and no recovery ends in front of it in silence',
  PATIENCE,
  async () => {
    await using bucket = await createBucket();
    const store = openS3Store(bucket.name, { prefix: DEFAULT_PREFIX });
    const context = operationContext();
    await using receiving = startReceiving(cluster, [store], { source: 'main', slot: 'main' });
    await receiving.streams();
    await backUpServer(cluster, [{ destination: { name: 'memory', store, needsDelete: false } }]);
    await cluster.sql(load(0));
    const rowsBefore = Number(await cluster.value('select count(*) from load'));
    const ends: bigint[] = [];
    for (const rows of [1, 2, 3]) {
      await cluster.sql(load(rows));
      ends.push(await flushedLsn(cluster));
      await receiving.archives(ends.at(-1) ?? 0n);
    }
    // By the clock that the server has too.
    const behind = new Date();
    await cluster.sql(load(4));
    await receiving.archives(await flushedLsn(cluster));
    await receiving.stop();
    await dropSlots(cluster);

    const planned = (target: Parameters<typeof restoreTo>[2]) =>
      restoreTo(store, '/nowhere', target, {}, { planOnly: true });
    const whole = await planned({ kind: 'end' });
    const deltas: string[] = [];
    for await (const { key } of store.list('main/wal/')) if (key.endsWith('.delta.zst')) deltas.push(key);
    // Small as they are, nothing has put them together, and the segment was begun by the base backup.
    const removed = deltas.at(-2) ?? '';
    const [, name = '', from = 0n, to = 0n] = /([0-9A-F]{24})\.([0-9A-F]+)-([0-9A-F]+)\./.exec(removed) ?? [];
    const start = segmentStartAt(ends[0] ?? 0n, MIB);
    const gap = [from, to].map((offset) => formatLsn(start + BigInt(`0x${offset}`)));
    await store.delete(removed);

    const error = await errorOf(planned({ kind: 'end' }));
    expect(error).toMatchObject({ code: 'wal-gap', message: expect.stringContaining(gap.join(' to ')) });
    expect(error.hint).toContain(`--lsn ${gap[0]}`);
    const before = await planned(targetAtLsn(gap[0] ?? ''));
    expect(before.recovery?.stop.lsn).toBeLessThan(whole.recovery?.stop.lsn ?? 0n);
    for (const target of [targetAt(behind), targetAtLsn(formatLsn(receiving.receiver.state().archived ?? 0n))]) {
      expect((await errorOf(planned(target))).code).toBe('outside-window');
    }
    const [found] = await recoveryTimelines({ store, source: 'main' }, context);
    expect(found?.wal.gaps).toEqual([{ from: gap[0], to: gap[1] }]);
    expect(found?.windows.map(({ bases }) => bases.length)).toEqual([1, 0]);
    // It is told of the window in front of the gap what was stored there, and not what a receiver noted later.
    expect(found?.windows[0]?.latest.getTime()).toBeLessThan(behind.getTime());
    const folder = await walFolder(cluster);
    const request = { ...folder, source: 'main', stores: [{ name: 'memory', store }], keys: NO_KEYS, name };
    await expect(fetchWal({ ...request, target: '/nowhere/it' }, context)).rejects.toMatchObject({ code: 'wal-gap' });

    // What is in front of it can be had: at the point that the hint names, and, of a drill, anywhere there.
    await using servers = await ServerFolder.make(cluster.binDir);
    const data = servers.join('before');
    await restoreTo(store, data, targetAtLsn(gap[0] ?? ''), bucket.env);
    const server = await servers.start(data);
    expect(await server.sql('select count(*)::int from load')).toEqual([{ count: rowsBefore + 1 + 2 }]);
    await servers.stop(data);
    const work = await workFolder();
    const drilled = { selector: { kind: 'random' }, fetch: fetchFrom(bucket.env) } as const;
    await drillIn(store, work, drilled);
    expect(await proofsIn(store)).toMatchObject([{ passed: true }]);
    await work.expectEmpty();
    await work[Symbol.asyncDispose]();
    await store.close();
  },
);
