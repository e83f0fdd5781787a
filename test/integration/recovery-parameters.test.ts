import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DirectoryRestoreOutcome } from '../../src/operations/restore-directory.ts';
import type { StartRequest } from '../../src/operations/recovery/start-recovered.ts';
import { freePort } from '../../src/postgres/server/free-port.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Cluster } from '../support/cluster.ts';
import { errorOf } from '../support/destinations.ts';
import { backUpServer, ServerFolder } from '../support/physical.ts';
import { restoreTo } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { flushedLsn, type Receiving, startReceiving } from '../support/wal-receiving.ts';

/** Where a command line that names only the bucket looks. */
const PREFIX = 'postgres-backups';

let cluster: Cluster;
let folder: ServerFolder;
let bucket: TestBucket;
let store: ObjectStore;
let receiving: Receiving;

beforeAll(async () => {
  cluster = await Cluster.start({
    initdb: ['--wal-segsize=1'],
    settings: { max_connections: '20', max_locks_per_transaction: '10' },
  });
  folder = await ServerFolder.make(cluster.binDir);
  bucket = await createBucket();
  store = openS3Store(bucket.name, { prefix: PREFIX });
  await backUpServer(cluster, [{ destination: { name: 's3', store, needsDelete: false } }]);
  await cluster.configure({ max_connections: '120', max_locks_per_transaction: '64' });
  await cluster.stop();
  await cluster.start();
  receiving = startReceiving(cluster, [store], { source: 'main', slot: 'main' });
  await receiving.streams();
  await cluster.sql('create table behind as select 1 as n');
  await receiving.archives(await flushedLsn(cluster));
  await receiving.stop();
});
afterAll(async () => {
  await receiving[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
  await store.close();
  await bucket[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

/** As where there is too much write-ahead log to be read before. */
async function recover(name: string, start: StartRequest = {}): Promise<DirectoryRestoreOutcome> {
  return restoreTo(store, folder.join(name), { kind: 'end' }, bucket.env, {
    verifyFirst: false,
    start: { binDir: cluster.binDir, ...start },
    port: await freePort(),
  });
}

describe('a primary that was given more behind the backup', { timeout: 120_000 }, () => {
  test('is recovered without its log being read before', async () => {
    const { started } = await recover('more');
    const server = folder.adopt(folder.join('more'), started?.port ?? 0);
    expect(await server.value('select n from behind')).toBe('1');
    await folder.stop(folder.join('more'));
  });

  test('ends a recovery that pauses for it with the server’s own words', async () => {
    const error = await errorOf(recover('paused', { settings: { hot_standby: 'on' } }));
    expect(error).toMatchObject({
      code: 'recovery-failed',
      message: expect.stringMatching(
        /recovery has paused.*max_connections = 20 is a lower setting than on the primary/,
      ),
    });
    await expect(folder.run('pg_ctl', ['-D', folder.join('paused'), 'status'])).rejects.toMatchObject({ code: 3 });
  });
});
