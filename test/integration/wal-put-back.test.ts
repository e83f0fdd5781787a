import { expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { parseLsn } from '../../src/postgres/wal/lsn.ts';
import { parseWalKey } from '../../src/repository/wal-keys.ts';
import { Cluster } from '../support/cluster.ts';
import { impatientClock } from '../support/impatient-clock.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Archived, flushedLsn, load, startReceiving, WAIT, walFolder } from '../support/wal-receiving.ts';

/** What is archived, by its etags. */
function contentOf(store: MemoryStore): Map<string, unknown> {
  return new Map(
    [...store.objects].flatMap(([key, { info }]) =>
      parseWalKey(key) === undefined ? [] : [[key, info.etag] as const],
    ),
  );
}

const other = (rows: number): string =>
  `create table if not exists load (t text);
   insert into load select repeat(md5((-i)::text), 30) from generate_series(1, ${rows}) i`;

test('of a server that was put back to an earlier state nothing is archived as if it went on from there', {
  timeout: 300_000,
}, async () => {
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  const store = new MemoryStore();
  // Nobody waits for long here.
  await using receiving = startReceiving(cluster, [store], { clock: impatientClock(200) });
  const { receiver } = receiving;
  await cluster.sql(load(1_200));
  // Only a part of a segment is written behind each state that the server is put back to, or several.
  for (const [before, after] of [
    [load(20), other(5)],
    [load(2_500), other(300)],
    [load(2_500), other(4_500)],
  ] as const) {
    await using state = await cluster.keepState();
    await cluster.sql(before);
    await receiving.archives(await flushedLsn(cluster));
    await cluster.stop();
    // The last thing that it has written is a checkpoint.
    const control = await cluster.run('pg_controldata', ['-D', cluster.dataDirectory]);
    const [, last = ''] = /Latest checkpoint location: +(\S+)/.exec(control) ?? [];
    await receiving.archives(parseLsn(last) + 1n);
    const archived = contentOf(store);
    await state.putBack();
    await cluster.start();
    await cluster.sql(after);
    await vi.waitUntil(() => receiver.state().failure?.code === 'wal-conflict', WAIT);
    expect(contentOf(store)).toEqual(archived);
    // The state that is archived comes back: it goes on.
    await cluster.stop();
    await state.bringForward();
    await cluster.start();
    await cluster.sql(load(10));
    await receiving.archives(await flushedLsn(cluster));
  }
  await receiving.stop();
  await new Archived(store, await walFolder(cluster), MIB).onlyStretch();
});
