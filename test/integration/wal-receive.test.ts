import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { type Clock, systemClock } from '../../src/common/clock.ts';
import { generateAgeIdentity } from '../../src/pipeline/encryption/age-keys.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { type WalAlarm, walLagMs } from '../../src/operations/wal/receive-request.ts';
import { parseLsn } from '../../src/postgres/wal/lsn.ts';
import { readWalRecord } from '../../src/repository/wal-record.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import type { Cluster } from '../support/cluster.ts';
import { openFileStore } from '../support/file-place.ts';
import { impatientClock } from '../support/impatient-clock.ts';
import { RefusingStore } from '../support/refusing-store.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { openS3Store } from '../support/s3-store.ts';
import { startStoppableProxy } from '../support/stoppable-proxy.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import {
  Archived,
  dropSlots,
  flushedLsn,
  load,
  removeWal,
  startReceiving,
  startWitnessed,
  WAIT,
  walFolder,
} from '../support/wal-receiving.ts';

let witnessed: Awaited<ReturnType<typeof startWitnessed>>;
let cluster: Cluster;
let bucket: TestBucket;
let files: Awaited<ReturnType<typeof openFileStore>>;
beforeAll(async () => {
  witnessed = await startWitnessed();
  cluster = witnessed.cluster;
  bucket = await createBucket();
  files = await openFileStore();
});
afterAll(async () => {
  await witnessed[Symbol.asyncDispose]();
  await bucket.remove();
  await files.dispose();
});

/** A store of its own for a test, in the bucket. */
function storeIn(prefix: string): ObjectStore {
  return openS3Store(bucket.name, { prefix });
}

async function archived(store: ObjectStore, server = cluster, keys?: Archived['keys']): Promise<Archived> {
  return new Archived(store, await walFolder(server), MIB, keys);
}

/** The system's, so many times as fast. */
function hurriedClock(times: number): Clock {
  return {
    now: () => systemClock.now(),
    monotonicMs: () => systemClock.monotonicMs() * times,
    sleep: (ms, signal) => systemClock.sleep(ms / times, signal),
  };
}

describe('received WAL', () => {
  test('is what an archive_command is given, in all storages, and the slot follows', async () => {
    const { identity, recipient } = await generateAgeIdentity();
    const sealer = await ageSealer({ recipients: [recipient] });
    const s3 = storeIn('both');
    await using receiving = startReceiving(cluster, [s3, files.store], { sealer });
    await receiving.streams();
    await cluster.sql(load(4_000));
    await cluster.sql('select pg_switch_wal()');
    await cluster.sql(load(100));
    const end = await flushedLsn(cluster);
    await receiving.archives(end);
    await vi.waitUntil(async () => (await cluster.value('select restart_lsn from pg_replication_slots')) !== '', WAIT);
    await cluster.until(
      'select last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1048576) from pg_stat_archiver',
    );
    for (const store of [s3, files.store]) {
      const found = await archived(store, cluster, { identities: [identity], passphrases: [] });
      expect(await found.expectAsWitness(witnessed.witness)).toBeGreaterThanOrEqual(4);
      expect((await found.onlyStretch()).to).toBeGreaterThanOrEqual(end);
      // Deltas are there of the newest segment alone.
      const { segments, deltas } = await found.names();
      const newest = [...segments].sort().at(-1) ?? '';
      expect(deltas.every((name) => name > newest)).toBe(true);
    }
    const { slot, phase, server } = receiving.receiver.state();
    expect(phase).toBe('streaming');
    // The server is asked each ten seconds, and covered up to its answer before the last one.
    await vi.waitUntil(() => (walLagMs(receiving.receiver.state(), new Date()) ?? Infinity) < 60_000, WAIT);
    expect(slot).toMatchObject({ state: 'reserved' });
    expect(server?.end).toBeGreaterThanOrEqual(end);
    await receiving.stop();
    const record = await readWalRecord(s3, await walFolder(cluster));
    expect(record).toMatchObject({ segmentBytes: MIB, head: { timeline: 1, slot: 'pgark_shop' } });
    await dropSlots(cluster);
  });

  test('goes on where it was, after a good end and after a broken connection, without a gap', async () => {
    const store = storeIn('again');
    for (const round of [1, 2]) {
      await using receiving = startReceiving(cluster, [store]);
      await cluster.sql(load(700));
      await receiving.archives(await flushedLsn(cluster));
      await cluster.sql(
        `select pg_terminate_backend(pid) from pg_stat_replication where application_name = 'pgark_shop'`,
      );
      await cluster.sql(load(700));
      await receiving.archives(await flushedLsn(cluster));
      if (round === 1) await receiving.stop();
      await cluster.sql(load(700));
    }
    await using receiving = startReceiving(cluster, [store]);
    const end = await flushedLsn(cluster);
    await receiving.archives(end);
    expect((await (await archived(store)).onlyStretch()).to).toBeGreaterThanOrEqual(end);
    await receiving.stop();
    await dropSlots(cluster);
  });

  test('is not waited for without end on a connection that broke without a word, nor is the end', async () => {
    await using proxy = await startTcpProxy(cluster.connection);
    const connection = { ...cluster.connection, port: proxy.port };
    await using receiving = startReceiving(cluster, [storeIn('silent')], { connection, clock: hurriedClock(20) });
    await receiving.streams();
    proxy.mute();
    await vi.waitUntil(() => receiving.receiver.state().failure?.message.includes('has sent nothing for 60 s'), WAIT);
    await receiving.stop();
    // The server has not heard of it either.
    proxy.cutAll();
    await cluster.until('select not bool_or(active) from pg_replication_slots');
    await dropSlots(cluster);
  });

  test('is an alarm where it does not come for long, which is over when it does', async () => {
    await using proxy = await startStoppableProxy(cluster.connection);
    const connection = { ...cluster.connection, port: proxy.port };
    await using receiving = startReceiving(cluster, [storeIn('away')], { connection, clock: hurriedClock(20) });
    await receiving.streams();
    await proxy.stop();
    await vi.waitUntil(() => receiving.alarms.some(({ kind }) => kind === 'server'), WAIT);
    await proxy.start();
    await vi.waitUntil(() => receiving.alarms.some((each) => each.kind === 'over' && each.of === 'server'), WAIT);
    await receiving.stop();
    await dropSlots(cluster);
  });

  test('ends within its time, whatever the server does not answer', async () => {
    await using proxy = await startTcpProxy(cluster.connection);
    const connection = { ...cluster.connection, port: proxy.port };
    // The login is answered, and nothing after it.
    const held = proxy.holdAfter(1);
    await using receiving = startReceiving(cluster, [storeIn('held')], { connection, stopGraceMs: 100 });
    await held;
    await cluster.until(`select count(*) = 1 from pg_stat_activity where application_name = 'pgark_shop monitor'`);
    await receiving.stop();
    expect(receiving.receiver.state().phase).toBe('stopped');
  });

  test('waits for a store that refuses, does not hold up the server’s end meanwhile, and loses nothing', async () => {
    const store = new RefusingStore(storeIn('refusing'));
    const stopped = async (): Promise<number> => {
      const begunMs = performance.now();
      await cluster.stop('fast');
      return performance.now() - begunMs;
    };
    // A busy machine takes more at one time than at another, and a server waits for ever.
    const fastMs = (await stopped()) + 10_000;
    await cluster.start();
    await using receiving = startReceiving(cluster, [store]);
    // A server that is away for long is an alarm of its own.
    const ofStore = (): WalAlarm[] => receiving.alarms.filter((each) => each.kind !== 'server');
    await cluster.sql(load(500));
    await receiving.archives(await flushedLsn(cluster));
    store.refuses = true;
    await cluster.sql(load(20));
    await vi.waitUntil(() => receiving.receiver.state().failingStores.size > 0, WAIT);
    expect(ofStore()).toMatchObject([{ kind: 'store', storage: 'store0' }]);
    // A little that is not stored.
    expect(await stopped()).toBeLessThan(fastMs);
    await vi.waitUntil(() => receiving.receiver.state().phase !== 'streaming', WAIT);
    await cluster.start();
    store.refuses = false;
    await receiving.archives(await flushedLsn(cluster));
    expect(ofStore()).toMatchObject([{ kind: 'store' }, { kind: 'over', of: 'store' }]);
    store.refuses = true;
    // So much that it is not even taken from the server.
    await cluster.sql(load(60_000));
    const before = await flushedLsn(cluster);
    await vi.waitUntil(() => receiving.receiver.state().failingStores.size > 0, WAIT);
    expect(await stopped()).toBeLessThan(fastMs);
    await cluster.start();
    store.refuses = false;
    await cluster.sql(load(100));
    await receiving.archives(await flushedLsn(cluster));
    const { to } = await (await archived(store)).onlyStretch();
    expect(to).toBeGreaterThan(before);
    await receiving.stop();
    await dropSlots(cluster);
  });

  test('of an idle server covers ever later moments', async () => {
    // It is asked each second.
    await cluster.set('wal_sender_timeout', '3s');
    await using receiving = startReceiving(cluster, [storeIn('idle')]);
    await cluster.sql(load(10));
    await receiving.archives(await flushedLsn(cluster));
    let end: bigint | undefined;
    const moments = new Set<bigint>();
    await vi.waitUntil(() => {
      const { server, archived: to, coveredUntil } = receiving.receiver.state();
      if (server === undefined || coveredUntil === undefined || to !== server.end) return false;
      // The server may log something of its own.
      if (end !== to) moments.clear();
      end = to;
      return moments.add(coveredUntil).size > 3;
    }, WAIT);
    await receiving.stop();
    await cluster.set('wal_sender_timeout', undefined);
    await dropSlots(cluster);
  });

  test('of a standby goes on with its promotion, on the new timeline', async () => {
    // The standby has no slot that keeps what it does not have yet.
    await cluster.set('wal_keep_size', '100MB');
    await using standby = await cluster.standby();
    const store = storeIn('standby');
    await using receiving = startReceiving(standby, [store]);
    await cluster.sql(load(1_500));
    await receiving.archives(await flushedLsn(cluster));
    // The primary may have committed more at any moment.
    expect(receiving.receiver.state()).toMatchObject({ server: expect.anything(), coveredUntil: undefined });
    await standby.promote();
    await standby.sql(load(1_500));
    const end = await flushedLsn(standby);
    await receiving.archives(end);
    expect(receiving.receiver.state().timeline).toBe(2);
    const found = await archived(store, standby);
    const { to } = await found.onlyStretch(2);
    expect(to).toBeGreaterThanOrEqual(end);
    const { ranges, histories } = await found.index();
    expect([[...ranges.keys()], histories]).toEqual([[1, 2], [2]]);
    await receiving.stop();
    expect(receiving.receiver.state().coveredUntil).toBeDefined();
    // Who comes later finds the way through the switch.
    await standby.sql(load(500));
    await using again = startReceiving(standby, [store]);
    await again.archives(await flushedLsn(standby));
    await found.onlyStretch(2);
    expect(again.alarms).toEqual([]);
  });

  test('that the server does not have any more is a gap, said aloud, and it goes on behind it', async () => {
    await cluster.set('wal_keep_size', undefined);
    const store = storeIn('gap');
    await using first = startReceiving(cluster, [store]);
    await cluster.sql(load(1_500));
    await first.archives(await flushedLsn(cluster));
    await first.stop();
    await dropSlots(cluster);
    await cluster.sql(load(3_000));
    await removeWal(cluster);
    await using second = startReceiving(cluster, [store]);
    await cluster.sql(load(10));
    await second.archives(await flushedLsn(cluster));
    expect(second.alarms).toMatchObject([{ kind: 'gap', error: { code: 'wal-gap' } }]);
    expect(second.receiver.state().gaps).toBe(1);
    const { ranges } = await (await archived(store)).index();
    expect(ranges.get(1)?.length).toBe(2);
    await second.stop();
    await dropSlots(cluster);
  });

  test('goes on from its end where the slot was lost with a server, but not the WAL', async () => {
    const store = storeIn('new-slot');
    await using first = startReceiving(cluster, [store]);
    await cluster.sql(load(300));
    await first.archives(await flushedLsn(cluster));
    await first.stop();
    await dropSlots(cluster);
    await cluster.set('wal_keep_size', '100MB');
    await cluster.sql(load(1_200));
    await removeWal(cluster);
    await using second = startReceiving(cluster, [store]);
    await second.archives(await flushedLsn(cluster));
    expect(second.alarms).toEqual([]);
    await (await archived(store)).onlyStretch();
    await second.stop();
    await dropSlots(cluster);
  });

  test('is archived before a commit returns, where the server waits for it', async () => {
    const store = storeIn('synchronous');
    await using receiving = startReceiving(cluster, [store], { synchronous: true, flushMs: 60_000 });
    await receiving.streams();
    await cluster.sql('create table if not exists waited (i int)');
    await cluster.set('synchronous_standby_names', 'pgark_shop');
    for (let i = 0; i < 5; i += 1) {
      const [row] = await cluster.sql<{ lsn: string }>(
        `insert into waited values (${i}) returning pg_current_wal_insert_lsn()::text as lsn`,
      );
      // The commit's own record is behind it.
      expect(receiving.receiver.state().archived).toBeGreaterThan(parseLsn(row?.lsn ?? '0/0'));
    }
    expect(await cluster.value('select sync_state from pg_stat_replication where sync_state <> $$async$$')).toBe(
      'sync',
    );
    await cluster.set('synchronous_standby_names', undefined);
    await receiving.stop();
    await dropSlots(cluster);
  });

  test('is let go, slot and all, where the slot holds back more than it may, and begins anew', async () => {
    const store = new RefusingStore(storeIn('budget'));
    // Nobody waits for long here.
    const clock = impatientClock(200);
    await using receiving = startReceiving(cluster, [store], { slotBudgetBytes: 4 * MIB, clock });
    await cluster.sql(load(500));
    await receiving.archives(await flushedLsn(cluster));
    store.refuses = true;
    const kinds = (): string[] => receiving.alarms.map(({ kind }) => kind);
    await cluster.sql(load(3_200));
    await vi.waitUntil(() => kinds().includes('slot'), WAIT);
    expect(kinds()).not.toContain('slot-dropped');
    await cluster.sql(load(2_000));
    await vi.waitUntil(() => kinds().includes('slot-dropped'), WAIT);
    expect(await cluster.value('select count(*) from pg_replication_slots')).toBe('0');
    await cluster.sql(load(3_000));
    store.refuses = false;
    await cluster.sql(load(10));
    await receiving.archives(await flushedLsn(cluster));
    // The new one may be let go too, as long as it holds back what came meanwhile.
    await cluster.until('(select count(*) from pg_replication_slots) = 1');
    await receiving.stop();
    await dropSlots(cluster);
  });

  test('is let go also after a restart of the server, while what came before it is not stored', async () => {
    const store = new RefusingStore(storeIn('restarted'));
    await using receiving = startReceiving(cluster, [store], { slotBudgetBytes: 4 * MIB, clock: hurriedClock(100) });
    await cluster.sql(load(100));
    await receiving.archives(await flushedLsn(cluster));
    store.refuses = true;
    await cluster.sql(load(10));
    await vi.waitUntil(() => receiving.receiver.state().failingStores.size > 0, WAIT);
    await cluster.stop('fast');
    await cluster.start();
    await cluster.sql(load(6_000));
    await vi.waitUntil(() => receiving.alarms.some(({ kind }) => kind === 'slot-dropped'), WAIT);
    expect(await cluster.value('select count(*) from pg_replication_slots')).toBe('0');
    store.refuses = false;
    await cluster.sql(load(10));
    await receiving.archives(await flushedLsn(cluster));
    await receiving.stop();
    await dropSlots(cluster);
  });
});
