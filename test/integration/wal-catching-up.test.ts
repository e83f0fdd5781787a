import { expect, test, vi } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { parseLsn } from '../../src/postgres/wal/lsn.ts';
import { readWalRecord } from '../../src/repository/wal-record.ts';
import { Cluster } from '../support/cluster.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { flushedLsn, load, startReceiving, WAIT, walFolder } from '../support/wal-receiving.ts';

test('a receiver that catches up notes how far it is, long before it has', { timeout: 120_000 }, async () => {
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  let passedMs = 0;
  const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + passedMs };
  const held = Promise.withResolvers<void>();
  let isHeld = false;
  const folder = await walFolder(cluster);
  const memory = new MemoryStore();
  const store = new FaultyStore(memory, {
    before: async ({ method, key }) => {
      if (!isHeld || !method.startsWith('put') || !key.startsWith('shop/')) return;
      await held.promise;
      await systemClock.sleep(100);
    },
  });
  await using receiving = startReceiving(cluster, [store], { clock });
  const noted = async (): Promise<bigint> => {
    const head = (await readWalRecord(memory, folder))?.head;
    return head === undefined ? 0n : parseLsn(head.lsn);
  };
  await vi.waitUntil(async () => (await noted()) > 0n, WAIT);
  const before = await noted();
  isHeld = true;
  await cluster.sql(load(30_000));
  const end = await flushedLsn(cluster);
  passedMs += 61_000;
  held.resolve();
  await vi.waitUntil(async () => (await noted()) > before, WAIT);
  expect(receiving.receiver.state().archived).toBeLessThan(end);
  await receiving.archives(end);
});
