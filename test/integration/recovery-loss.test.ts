import { expect, test } from 'vitest';
import { Cluster } from '../support/cluster.ts';
import { backUpServer, ServerFolder } from '../support/physical.ts';
import { NumberedLoad, restoreTo } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket } from '../support/s3.ts';
import { startReceiving } from '../support/wal-receiving.ts';

test('of a server that is lost, every commit comes back that waited for the archive', {
  timeout: 480_000,
}, async () => {
  await using bucket = await createBucket();
  const store = openS3Store(bucket.name, { prefix: 'postgres-backups' });
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await using folder = await ServerFolder.make(cluster.binDir);
  await using receiving = startReceiving(cluster, [store], { source: 'main', slot: 'main', synchronous: true });
  await receiving.streams();
  await backUpServer(cluster, [{ destination: { name: 's3', store, needsDelete: false } }]);
  await cluster.set('synchronous_standby_names', 'main');
  await cluster.until(`exists (select from pg_stat_replication where sync_state = 'sync')`);
  const load = await NumberedLoad.start(cluster);
  await load.more(150);
  await cluster.kill();
  const acknowledged = await load.untilBroken();
  await receiving.stop();
  const data = folder.join('data');
  await restoreTo(store, data, { kind: 'end' }, bucket.env);
  const server = await folder.start(data);
  const [found] = await server.sql<{ count: number; max: number }>(
    'select count(*)::int as count, max(n) from numbered',
  );
  expect(found?.count).toBe(found?.max);
  expect(found?.max).toBeGreaterThanOrEqual(acknowledged.at(-1)?.n ?? 0);
  // One more than is known of may have been committed, and none that was not sent.
  expect(found?.max).toBeLessThanOrEqual((acknowledged.at(-1)?.n ?? 0) + 1);
  await store.close();
});
