import { expect, test } from 'vitest';
import { PgarkError } from '../../src/common/errors.ts';
import { DEFAULT_PREFIX } from '../support/archived-server.ts';
import { Cluster } from '../support/cluster.ts';
import { s3Facts } from '../support/facts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { backUpServer, ServerFolder } from '../support/physical.ts';
import { startReceiver } from '../support/receiver-process.ts';
import { NumberedLoad, restoreTo } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { startReceiving } from '../support/wal-receiving.ts';

const PATIENCE = { timeout: 480_000 };

/** How many rows come back from the storage alone: 1 up to this one. */
async function rowsRestored(bucket: TestBucket, folder: ServerFolder): Promise<number> {
  const store = openS3Store(bucket.name, { prefix: DEFAULT_PREFIX });
  const data = folder.join('data');
  await restoreTo(store, data, { kind: 'end' }, bucket.env);
  await store.close();
  const server = await folder.start(data);
  const [found] = await server.sql<{ count: number; max: number }>(
    'select count(*)::int as count, max(n) from numbered',
  );
  expect(found?.count).toBe(found?.max);
  return found?.max ?? 0;
}

test('of a server that is lost, every commit comes back that waited for the archive', PATIENCE, async () => {
  await using bucket = await createBucket();
  let isLost = false;
  // Neither the server nor its receiver brings anything there once it is lost.
  const store = new FaultyStore(openS3Store(bucket.name, { prefix: DEFAULT_PREFIX }), {
    before: ({ method }) => {
      if (isLost && method.startsWith('put')) throw new PgarkError('store-unreachable', 'all is lost');
    },
  });
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await using folder = await ServerFolder.make(cluster.binDir);
  const how = { source: 'main', slot: 'main', synchronous: true, stopGraceMs: 100 };
  await using receiving = startReceiving(cluster, [store], how);
  await receiving.streams();
  await backUpServer(cluster, [{ destination: { name: 's3', store, needsDelete: false } }]);
  await cluster.set('synchronous_standby_names', 'main');
  await cluster.until(`exists (select from pg_stat_replication where sync_state = 'sync')`);
  const load = await NumberedLoad.start(cluster);
  await load.more(150);
  isLost = true;
  await cluster.kill();
  const acknowledged = await load.untilBroken();
  await receiving.stop();
  const last = await rowsRestored(bucket, folder);
  expect(last).toBeGreaterThanOrEqual(acknowledged.at(-1)?.n ?? 0);
  // One more than is known of may have been committed, and none that was not sent.
  expect(last).toBeLessThanOrEqual((acknowledged.at(-1)?.n ?? 0) + 1);
  await store.close();
});

test('of a server that is lost with its receiver, no more than the last ten seconds is', PATIENCE, async () => {
  await using bucket = await createBucket();
  await using proxy = await startFaultProxy(s3Facts().endpoint);
  const store = openS3Store(bucket.name, { prefix: DEFAULT_PREFIX });
  await using cluster = await Cluster.start();
  await using folder = await ServerFolder.make(cluster.binDir);
  const receiver = await startReceiver({
    ...bucket.env,
    S3_ENDPOINT: proxy.endpoint,
    DATABASE_URL: cluster.url,
    BACKUP_NAME: 'main',
  });
  await backUpServer(cluster, [{ destination: { name: 's3', store, needsDelete: false } }]);
  await store.close();
  // So few that no segment is full before its time.
  const load = await NumberedLoad.start(cluster, { pauseMs: 50 });
  const lost = Promise.withResolvers<number>();
  // Both go at the worst moment: when what has come in ten seconds was to be stored.
  proxy.setFaults(({ operation, url, nth }) => {
    if (operation !== 'PutObject' || !url.pathname.includes('/wal/') || nth < 3) return undefined;
    receiver.kill('SIGKILL');
    cluster.kill().then(() => lost.resolve(Date.now()), lost.reject);
    return { kind: 'cut-request', afterBytes: 0 };
  });
  const lostMs = await lost.promise;
  const acknowledged = await load.untilBroken();
  await receiver.ended;
  const last = await rowsRestored(bucket, folder);
  const missing = acknowledged.filter(({ n }) => n > last);
  expect(missing.length).toBeGreaterThan(0);
  // The storage and a busy machine take their time as well.
  expect(lostMs - Date.parse(missing[0]?.time ?? '')).toBeLessThan(10_000 + 5_000);
});
