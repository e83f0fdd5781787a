import { expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { PgarkError } from '../../src/common/errors.ts';
import { Cluster } from '../support/cluster.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { impatientClock } from '../support/impatient-clock.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Archived, flushedLsn, load, type Receiving, startReceiving, walFolder } from '../support/wal-receiving.ts';

const WAIT = { timeout: 120_000, interval: 50 };

/** Nobody waits for long here. */
const clock = impatientClock(300);

test('a storage that refuses holds up the slot for a while only, and gets all that it lacks from the other one', {
  timeout: 240_000,
}, async () => {
  await using cluster = await Cluster.start({
    initdb: ['--wal-segsize=1'],
    settings: { max_wal_size: '2MB', min_wal_size: '2MB' },
  });
  const near = new MemoryStore();
  const far = new MemoryStore();
  let refuses = false;
  const faulty = new FaultyStore(far, {
    before: () => {
      if (refuses) throw new PgarkError('store-unreachable', 'the test refuses');
    },
  });
  const folder = await walFolder(cluster);
  const [inNear, inFar] = [near, far].map((store) => new Archived(store, folder, MIB)) as [Archived, Archived];
  /** Until the one that was left behind is waited for again: it comes back between two segments, so there must be some. */
  const isBack = async ({ receiver }: Receiving): Promise<boolean> => {
    await cluster.sql(load(1_100));
    return receiver.state().failingStores.size === 0;
  };
  {
    await using receiving = startReceiving(cluster, [near, faulty], { clock });
    await cluster.sql(load(1_500));
    await receiving.archives(await flushedLsn(cluster));
    refuses = true;
    await cluster.sql(load(3_000));
    await receiving.archives(await flushedLsn(cluster));
    expect(receiving.alarms).toMatchObject([{ kind: 'store', storage: 'store1' }]);
    // The server need not keep it any more.
    await cluster.sql('checkpoint');
    refuses = false;
    await vi.waitUntil(() => isBack(receiving), WAIT);
    refuses = true;
    await cluster.sql(load(3_000));
    await receiving.archives(await flushedLsn(cluster));
    await cluster.sql(`${load(1_500)}; checkpoint`);
    await receiving.archives(await flushedLsn(cluster));
    await receiving.stop();
  }
  // One that begins finds that one of them is behind, with WAL that the server has no more.
  await cluster.sql(`${load(1_500)}; checkpoint`);
  refuses = false;
  await using again = startReceiving(cluster, [near, faulty], { clock });
  await vi.waitUntil(() => again.alarms.some(({ kind }) => kind === 'store'), WAIT);
  await vi.waitUntil(() => isBack(again), WAIT);
  expect(again.alarms.filter(({ kind }) => kind === 'gap')).toEqual([]);
  await again.archives(await flushedLsn(cluster));
  for (const archived of [inNear, inFar]) await archived.onlyStretch();
  expect([...(await inFar.names()).segments]).toEqual([...(await inNear.names()).segments]);
});
