import { expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { Cluster } from '../support/cluster.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Archived, flushedLsn, load, startReceiving, walFolder } from '../support/wal-receiving.ts';

const WAIT = { timeout: 120_000, interval: 50 };

test('of two servers that choose the same timeline at the same position the archive takes the WAL of one', {
  timeout: 240_000,
}, async () => {
  await using primary = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await using one = await primary.standby({ wal_keep_size: '500MB' });
  await using other = await primary.standby({ wal_keep_size: '500MB' });
  await primary.sql(load(1_500));
  const end = await primary.value('select pg_current_wal_flush_lsn()');
  for (const standby of [one, other]) await standby.until(`pg_last_wal_replay_lsn() >= '${end}'`);
  await primary.stop('fast');
  for (const standby of [one, other]) await standby.promote();
  // What tells timelines apart tells these two alike.
  const history = async (server: Cluster): Promise<string> =>
    server.value(`select pg_read_file('pg_wal/00000002.history')`);
  expect(await history(one)).toBe(await history(other));

  const store = new MemoryStore();
  await using first = startReceiving(one, [store]);
  // Bulk loads of the very same rows would give the very same bytes.
  await one.sql(`insert into load select repeat(md5((-i)::text), 30) from generate_series(1, 2500) i`);
  await first.archives(await flushedLsn(one));
  await first.stop();
  const archived = new Archived(store, await walFolder(one), MIB);
  const { to } = await archived.onlyStretch(2);
  const before = [...store.objects].map(([key, { info }]) => [key, info.etag]);

  // It has more WAL than the other one, and would go on where that one's ends.
  await other.sql(load(9_000));
  await other.sql('checkpoint');
  await using second = startReceiving(other, [store], { slot: 'second' });
  await vi.waitUntil(() => second.receiver.state().failure?.code === 'wal-conflict', WAIT);
  expect(second.receiver.state().failure?.hint).toContain('a copy and its original');
  // Nor does it keep WAL for an archive that is not its own: whenever it tries again, the slot goes again.
  await other.until('(select count(*) from pg_replication_slots) = 0');
  await second.stop();
  const { segments } = await archived.names();
  expect((await archived.onlyStretch(2)).to).toBe(to);
  const after = new Map([...store.objects].map(([key, { info }]) => [key, info.etag]));
  for (const [key, etag] of before) {
    if (key?.endsWith('.zst') === true && !key.includes('.delta')) expect([key, after.get(key)]).toEqual([key, etag]);
  }
  expect(segments.length).toBeGreaterThan(2);

  // The first one goes on as if nothing had been.
  await one.sql(load(1_200));
  await using again = startReceiving(one, [store]);
  await again.archives(await flushedLsn(one));
  await archived.onlyStretch(2);
  expect(again.alarms).toEqual([]);
});
