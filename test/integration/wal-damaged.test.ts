import { afterAll, beforeAll, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { segmentStartAt } from '../../src/postgres/wal/segment.ts';
import type { Cluster } from '../support/cluster.ts';
import { flipBit } from '../support/damage.ts';
import { impatientClock } from '../support/impatient-clock.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import {
  Archived,
  dropSlots,
  flushedLsn,
  load,
  startReceiving,
  startWitnessed,
  walFolder,
} from '../support/wal-receiving.ts';

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
