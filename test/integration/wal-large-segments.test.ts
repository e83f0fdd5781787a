import { expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { Cluster } from '../support/cluster.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Archived, flushedLsn, load, startReceiving, walFolder } from '../support/wal-receiving.ts';

test('of a segment that takes long to fill no more than a usual segment waits, however long a flush may take', async () => {
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=64'], settings: { fsync: 'off' } });
  const store = new MemoryStore();
  await using receiving = startReceiving(cluster, [store], { flushMs: 24 * 3_600_000 });
  await receiving.streams();
  await cluster.sql(load(15_000));
  const end = await flushedLsn(cluster);
  await receiving.archives(end - BigInt(16 * MIB));
  const archived = new Archived(store, await walFolder(cluster), 64 * MIB);
  expect((await archived.onlyStretch()).to).toBe(receiving.receiver.state().archived);
  expect(await archived.names()).toMatchObject({ segments: [] });
  await receiving.stop();
});
