import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { type Clock, systemClock } from '../../src/common/clock.ts';
import { PgarkError } from '../../src/common/errors.ts';
import { ServerMonitor } from '../../src/operations/wal/server-monitor.ts';
import { Cluster } from '../support/cluster.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { impatientClock } from '../support/impatient-clock.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { RefusingStore } from '../support/refusing-store.ts';
import { dropSlots, flushedLsn, load, type Receiving, startReceiving, WAIT } from '../support/wal-receiving.ts';

/** Nobody waits for long here. */
const clock = impatientClock(200);
const BUDGET = { slotBudgetBytes: 4 * MIB, clock };

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start({
    initdb: ['--wal-segsize=1'],
    settings: { max_wal_size: '2MB', min_wal_size: '2MB' },
  });
});
afterAll(() => cluster[Symbol.asyncDispose]());

async function isDropped({ alarms }: Receiving): Promise<void> {
  await vi.waitUntil(() => alarms.some(({ kind }) => kind === 'slot-dropped'), WAIT);
}

async function removeSegmentsBefore(current: string): Promise<void> {
  const folder = path.join(cluster.dataDirectory, 'pg_wal');
  for (const name of await readdir(folder)) {
    if (/^[0-9A-F]{24}$/.test(name) && name < current) await rm(path.join(folder, name));
  }
}

describe('a slot that was there before', { timeout: 240_000 }, () => {
  test('is let go beyond its budget although the storage cannot be reached from the beginning on', async () => {
    let isAway = false;
    const store = new FaultyStore(new MemoryStore(), {
      before: () => {
        if (isAway) throw new PgarkError('store-unreachable', 'the test refuses');
      },
    });
    const first = startReceiving(cluster, [store]);
    await cluster.sql(load(100));
    await first.archives(await flushedLsn(cluster));
    await first.stop();
    isAway = true;
    await cluster.sql(load(6_000));
    await using receiving = startReceiving(cluster, [store], BUDGET);
    await isDropped(receiving);
    expect(await cluster.value('select count(*) from pg_replication_slots')).toBe('0');
    isAway = false;
    await receiving.archives(await flushedLsn(cluster));
    await receiving.stop();
    await dropSlots(cluster);
  });

  test('is let go beyond its budget although each connection ends at once, as the archive is another server’s', async () => {
    // Each is over before the slot would be looked at a second time.
    const once = {
      ...clock,
      sleep: (ms: number, signal?: AbortSignal) => (ms === 15_000 ? systemClock : clock).sleep(ms, signal),
    };
    await using receiving = startReceiving(cluster, [new MemoryStore()], { ...BUDGET, clock: once });
    await cluster.sql(load(1_200));
    await receiving.archives(await flushedLsn(cluster));
    await using state = await cluster.keepState();
    await cluster.sql(load(2_500));
    await receiving.archives(await flushedLsn(cluster));
    await cluster.stop();
    await state.putBack();
    await cluster.start();
    await cluster.sql('insert into load select repeat(md5((-i)::text), 30) from generate_series(1, 2000) i');
    await vi.waitUntil(() => receiving.receiver.state().failure?.code === 'wal-conflict', WAIT);
    await cluster.sql(load(6_000));
    await isDropped(receiving);
    await cluster.until('(select count(*) from pg_replication_slots) = 0');
    await receiving.stop();
    await dropSlots(cluster);
  });

  test('is of no use for a storage that fails late, which is an alarm all the same', async () => {
    // A minute lasts no longer than a moment.
    const hurried: Clock = {
      now: () => systemClock.now(),
      monotonicMs: () => systemClock.monotonicMs() * 1_000,
      sleep: (ms, signal) => systemClock.sleep(ms / 1_000, signal),
    };
    const store = new FaultyStore(new MemoryStore(), {
      before: async () => {
        await hurried.sleep(90_000);
        throw new PgarkError('store-unreachable', 'the test refuses');
      },
    });
    await using receiving = startReceiving(cluster, [store], { clock: hurried });
    await vi.waitUntil(() => receiving.alarms.some(({ kind }) => kind === 'server'), WAIT);
    await receiving.stop();
  });

  test('and made anew where even what follows the last checkpoint is gone, is gone on with where the server writes', async () => {
    const store = new MemoryStore();
    const first = startReceiving(cluster, [store]);
    await cluster.sql(load(1_200));
    await first.archives(await flushedLsn(cluster));
    await first.stop();
    // No checkpoint comes to help.
    await cluster.sql(`alter system set max_wal_size = '1GB'`);
    await cluster.sql(`alter system set checkpoint_timeout = '1d'`);
    await cluster.sql('select pg_reload_conf()');
    await cluster.until(`current_setting('max_wal_size') = '1GB'`);
    await cluster.sql('checkpoint');
    await cluster.sql(load(4_000));
    await removeSegmentsBefore(await cluster.value('select pg_walfile_name(pg_current_wal_lsn())'));
    await using receiving = startReceiving(cluster, [store], { clock });
    await cluster.sql(load(10));
    await receiving.archives(await flushedLsn(cluster));
    expect(new Set(receiving.alarms.map(({ kind }) => kind))).toEqual(new Set(['gap']));
    await receiving.stop();
    await dropSlots(cluster);
    await cluster.sql('alter system reset all');
    await cluster.sql('select pg_reload_conf()');
    await cluster.sql('checkpoint');
  });

  test('and has not kept what it was to keep is a gap, said aloud', async () => {
    const store = new MemoryStore();
    const first = startReceiving(cluster, [store]);
    await cluster.sql(load(1_200));
    await first.archives(await flushedLsn(cluster));
    await first.stop();
    await cluster.sql(load(4_000));
    await cluster.sql('select pg_switch_wal()');
    await cluster.sql('checkpoint');
    await removeSegmentsBefore(await cluster.value('select pg_walfile_name(pg_current_wal_lsn())'));
    await using receiving = startReceiving(cluster, [store], { clock });
    await cluster.sql(load(10));
    await receiving.archives(await flushedLsn(cluster));
    expect(receiving.alarms.map(({ kind }) => kind)).toEqual(['gap']);
    expect(receiving.receiver.state().gaps).toBe(1);
    await receiving.stop();
    await dropSlots(cluster);
  });
});

test('that a slot was dropped is said when it was, and that it could not be when that fails', {
  timeout: 240_000,
}, async () => {
  const store = new RefusingStore(new MemoryStore());
  await using receiving = startReceiving(cluster, [store], BUDGET);
  await cluster.sql(load(100));
  await receiving.archives(await flushedLsn(cluster));
  const dropping = `pg_stat_activity where query like 'DROP_REPLICATION_SLOT%' and state = 'active'`;
  const said = (): readonly string[] => [
    receiving.receiver.state().failure?.message ?? '',
    ...receiving.alarms.map((alarm) => (alarm.kind === 'over' ? '' : alarm.error.message)),
  ];
  // Who sends to us notices nothing, and holds the slot.
  const sender = Number(await cluster.value(`select active_pid from pg_replication_slots`));
  process.kill(sender, 'SIGSTOP');
  try {
    store.refuses = true;
    await cluster.sql(load(6_000));
    await cluster.until(`exists (select from ${dropping})`);
    expect(said().filter((text) => text.includes('was dropped'))).toEqual([]);
    await cluster.sql(`select pg_terminate_backend(pid) from ${dropping}`);
    await vi.waitUntil(() => said().some((text) => text.includes('could not be dropped')), WAIT);
    expect(receiving.alarms.map(({ kind }) => kind)).not.toContain('slot-dropped');
    expect(receiving.receiver.state().slotKept?.code).toBe('wal-slot-kept');
  } finally {
    process.kill(sender, 'SIGCONT');
  }
  await isDropped(receiving);
  expect(said().some((text) => text.includes('was dropped'))).toBe(true);
  expect(receiving.receiver.state().slotKept).toBeUndefined();
  store.refuses = false;
  await receiving.stop();
  await cluster.until('not exists (select from pg_replication_slots where active)');
  await dropSlots(cluster);
});

test('two who ask at the same time where a slot stands are both answered', async () => {
  await cluster.sql(`select pg_create_physical_replication_slot('asked', true)`);
  const { signal } = new AbortController();
  const monitor = await ServerMonitor.open({ connection: cluster.connection, slot: 'asked' }, signal);
  const [slot, again, none] = await Promise.all(['asked', 'asked', 'other'].map((name) => monitor.slot(name)));
  expect(slot).toMatchObject({ state: 'reserved', isActive: false });
  expect(again).toEqual(slot);
  expect(none).toBeUndefined();
  await monitor.close();
  await dropSlots(cluster);
});
