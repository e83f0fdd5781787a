import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { targetAt, targetAtLsn } from '../../src/operations/recovery/recovery-target.ts';
import type { RecoveryRequest } from '../../src/operations/restore-directory.ts';
import { Cluster } from '../support/cluster.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { backUpServer, ServerFolder } from '../support/physical.ts';
import { NumberedLoad, restoreTo, type WrittenRow } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { flushedLsn, type Receiving, startReceiving } from '../support/wal-receiving.ts';

type Target = RecoveryRequest['target'];

let cluster: Cluster;
let folder: ServerFolder;
let bucket: TestBucket;
let store: ObjectStore;
let receiving: Receiving;
let rows: readonly WrittenRow[];

beforeAll(async () => {
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  folder = await ServerFolder.make(cluster.binDir);
  bucket = await createBucket();
  // As a command line that names only the bucket finds it.
  store = openS3Store(bucket.name, { prefix: 'postgres-backups' });
  receiving = startReceiving(cluster, [store], { source: 'main', slot: 'main' });
  await receiving.streams();
  const load = await NumberedLoad.start(cluster);
  await load.more(20);
  await backUpServer(cluster, [{ destination: { name: 's3', store, needsDelete: false } }]);
  await load.more(2_000);
  rows = await load.stop();
  await receiving.archives(await flushedLsn(cluster));
});
afterAll(async () => {
  await receiving[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
  await store.close();
  await bucket[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

/** The rows that a recovery brings back: 1 up to a last one. */
async function recovered(name: string, target: Target): Promise<number> {
  const data = folder.join(name);
  await restoreTo(store, data, target, bucket.env);
  const server = await folder.start(data);
  const [found] = await server.sql<{ count: string; max: number }>('select count(*), max(n) from numbered');
  await folder.stop(data);
  expect(found?.count).toBe(String(found?.max));
  return found?.max ?? 0;
}

describe('a recovery', { timeout: 240_000 }, () => {
  test('goes to the end of what is archived', async () => {
    expect(await recovered('end', { kind: 'end' })).toBe(rows.length);
  });

  test.each<[string, (row: WrittenRow) => Target]>([
    ['position', ({ lsn }) => targetAtLsn(lsn)],
    ['moment', ({ time }) => targetAt(new Date(time), Number(time.slice(23, 26)))],
    ['transaction', ({ xid }) => ({ kind: 'xid', xid })],
    ['restore-point', ({ restorePoint }) => ({ kind: 'restore-point', name: restorePoint ?? '' })],
  ])('to a %s brings back what was committed by then', async (kind, targetOf) => {
    const row = rows[1_499];
    expect(row?.restorePoint).toBeDefined();
    if (row !== undefined) expect(await recovered(kind, targetOf(row))).toBe(row.n);
  });
});
