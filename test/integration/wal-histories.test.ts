import { readdir, rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { parseWalKey, walKey } from '../../src/repository/wal-keys.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Cluster } from '../support/cluster.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Archived, flushedLsn, load, startReceiving, walFolder } from '../support/wal-receiving.ts';

let cluster: Cluster;
beforeAll(async () => {
  // It does not archive: who does closes a segment with each end.
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'], settings: { wal_keep_size: '100MB' } });
});
afterAll(() => cluster[Symbol.asyncDispose]());

async function archived(store: ObjectStore, server: Cluster): Promise<Archived> {
  return new Archived(store, await walFolder(server), MIB);
}

describe('received WAL of many timelines', () => {
  test('goes on with a server that lacks the history of a timeline before its own', async () => {
    await using primary = await cluster.standby();
    await primary.promote();
    const [store, lacking, other] = [new MemoryStore(), new MemoryStore(), new MemoryStore()];
    await using receiving = startReceiving(primary, [store, lacking, other]);
    await receiving.streams();
    await primary.sql(load(3_500));
    await primary.sql('select pg_switch_wal()');
    await receiving.archives(await flushedLsn(primary));
    await receiving.stop();
    await primary.beginTimeline();
    // A base backup brings one history; of the segment that it begins behind nothing is left when the primary is lost.
    await using rebuilt = await primary.standby();
    await rebuilt.promote();
    expect(await readdir(`${rebuilt.dataDirectory}/pg_wal`)).not.toContain('00000002.history');
    await rm(`${primary.dataDirectory}/pg_wal/00000002.history`);
    const folder = await walFolder(primary);
    await lacking.delete(walKey(folder, { kind: 'history', name: '00000002.history' }, ''));
    // Where the history is archived, WAL of that timeline can go on.
    const last = [...(await (await archived(store, primary)).names()).segments].sort().at(-1) ?? '';
    for await (const { key } of store.list('shop/wal/')) {
      const wal = parseWalKey(key);
      if (wal !== undefined && wal.kind !== 'history' && wal.name >= last) await store.delete(key);
    }
    for (const [server, to, timeline, alarms] of [
      [primary, store, 3, []],
      [primary, lacking, 3, []],
      [rebuilt, other, 4, [{ kind: 'gap', error: { code: 'wal-gap' } }]],
    ] as const) {
      await using again = startReceiving(server, [to]);
      await server.sql(load(100));
      const end = await flushedLsn(server);
      await again.archives(end);
      expect(again.alarms).toMatchObject(alarms);
      if (alarms.length === 0) {
        expect((await (await archived(to, server)).onlyStretch(timeline)).to).toBeGreaterThanOrEqual(end);
      }
      await again.stop();
    }
  });

  test('comes with the histories of timelines that ended while nobody received, within one segment', async () => {
    await using primary = await cluster.standby();
    await primary.promote();
    // A slot that is made now keeps nothing before this segment.
    await primary.sql('select pg_switch_wal()');
    await primary.sql('checkpoint');
    const store = new MemoryStore();
    await using first = startReceiving(primary, [store]);
    await primary.sql('create table quiet ()');
    await first.archives(await flushedLsn(primary));
    await first.stop();
    await primary.beginTimeline();
    await primary.beginTimeline();
    await using second = startReceiving(primary, [store]);
    await second.archives(await flushedLsn(primary));
    const { ranges, histories } = await (await archived(store, primary)).index();
    expect([[...ranges.keys()], histories, second.alarms]).toEqual([[2, 4], [2, 3, 4], []]);
    await second.stop();
  });
});
