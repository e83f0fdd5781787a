import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import type { ConnectionParameters } from '../../src/postgres/client/connection-parameters.ts';
import { Cluster } from '../support/cluster.ts';
import { impatientClock } from '../support/impatient-clock.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { reload } from '../support/reload.ts';
import { Archived, flushedLsn, load, startReceiving, walFolder } from '../support/wal-receiving.ts';
import { readServerFolders } from './matrix-servers.ts';

/** Servers that let go of slots which nobody has used for a time. */
const servers = [...(await readServerFolders())].filter(([major]) => major >= 18);

/** Nobody waits for long here. */
const clock = impatientClock(200);
const INVALIDATED = `exists (select from pg_replication_slots where invalidation_reason = 'idle_timeout')`;

/** The slot is gone, and all WAL is there. */
async function invalidateSlot(cluster: Cluster): Promise<void> {
  await cluster.until('not exists (select from pg_replication_slots where active)');
  await cluster.set('idle_replication_slot_timeout', '1s');
  await cluster.sql('select pg_sleep(1.5)');
  await cluster.sql('checkpoint');
  await cluster.until(INVALIDATED);
  await cluster.set('idle_replication_slot_timeout', undefined);
}

/** A role that is let into no database, so that nobody may ask in SQL where the slot stands. */
async function copier(cluster: Cluster): Promise<ConnectionParameters> {
  await cluster.sql('create role copier login replication');
  const file = path.join(cluster.dataDirectory, 'pg_hba.conf');
  const lines = 'host replication copier all trust\nhost all copier all reject\n';
  await writeFile(file, `${lines}${await readFile(file, 'utf8')}`);
  await reload((sql) => cluster.sql(sql));
  return { ...cluster.connection, user: 'copier' };
}

describe.each(servers)('a slot that PostgreSQL %i let go as nobody used it', { timeout: 240_000 }, (_major, binDir) => {
  const start = (wal_keep_size: string): Promise<Cluster> =>
    Cluster.start({
      binDir,
      initdb: ['--wal-segsize=1'],
      settings: { wal_keep_size, max_wal_size: '2MB', min_wal_size: '2MB' },
    });

  test.each([
    ['as is seen before it is used', async (cluster: Cluster) => cluster.connection],
    ['as is seen when it is used', copier],
  ])('is made anew, %s, and costs no WAL that the server still has', async (_, connect) => {
    const store = new MemoryStore();
    await using cluster = await start('1GB');
    const connection = await connect(cluster);
    const first = startReceiving(cluster, [store], { connection });
    await cluster.sql(load(1_200));
    await first.archives(await flushedLsn(cluster));
    await first.stop();
    await cluster.sql(load(4_000));
    await invalidateSlot(cluster);
    await using receiving = startReceiving(cluster, [store], { clock, connection });
    await cluster.sql(load(10));
    const end = await flushedLsn(cluster);
    await receiving.archives(end);
    expect(receiving.alarms).toEqual([]);
    expect((await new Archived(store, await walFolder(cluster), MIB).onlyStretch()).to).toBeGreaterThanOrEqual(end);
    await receiving.stop();
  });

  test('is a gap, said aloud, where that WAL is gone', async () => {
    const store = new MemoryStore();
    await using cluster = await start('0');
    const first = startReceiving(cluster, [store]);
    await cluster.sql(load(1_200));
    await first.archives(await flushedLsn(cluster));
    await first.stop();
    await cluster.sql(load(4_000));
    await invalidateSlot(cluster);
    await cluster.sql(load(4_000));
    await cluster.sql('checkpoint');
    await using receiving = startReceiving(cluster, [store], { clock });
    await cluster.sql(load(10));
    await receiving.archives(await flushedLsn(cluster));
    expect(receiving.alarms.map(({ kind }) => kind)).toEqual(['gap']);
    await receiving.stop();
  });
});
