import { expect, test } from 'vitest';
import { Cluster } from '../support/cluster.ts';
import { fileDestination } from '../support/destinations.ts';
import { backUpServer, restoreServer, ServerFolder } from '../support/physical.ts';

const COUNT = 'select count(*)::text from told';

test('a restored server lets its subscriptions rest, so that the old one misses nothing, until they are turned on', async () => {
  await using publisher = await Cluster.start({ settings: { wal_level: 'logical' } });
  await using subscriber = await Cluster.start();
  await using folder = await ServerFolder.make(subscriber.binDir);
  await using disk = await fileDestination('disk');
  for (const cluster of [publisher, subscriber]) await cluster.sql('create table told (n int primary key)');
  await publisher.sql('create publication news for table told');
  await backUpServer(subscriber, [disk]);
  expect((await restoreServer(disk.store, folder.join('without'))).warnings).toEqual([]);

  const connection = `host=127.0.0.1 port=${publisher.port} user=postgres dbname=postgres`;
  await subscriber.sql(`create subscription news connection '${connection}' publication news`);
  // Its table is in another file then.
  await subscriber.sql('vacuum full pg_subscription');
  await publisher.sql('insert into told values (1)');
  await subscriber.until(`(${COUNT}) = '1'`);
  await backUpServer(subscriber, [disk]);
  await subscriber.stop();
  await publisher.until('not (select active from pg_replication_slots)');

  const data = folder.join('data');
  const { warnings } = await restoreServer(disk.store, data);
  expect(warnings).toEqual([
    expect.stringMatching(/^subscriptions .* do not run .* ALTER SYSTEM RESET max_logical_replication_workers/),
  ]);
  const restored = await folder.start(data);
  expect(await restored.value(`select subenabled from pg_subscription`)).toBe('true');
  const launchers = `select count(*) from pg_stat_activity where backend_type = 'logical replication launcher'`;
  expect(await restored.value(launchers)).toBe('0');
  await publisher.sql('insert into told values (2)');
  await subscriber.start();
  await subscriber.until(`(${COUNT}) = '2'`);
  expect(await restored.value(COUNT)).toBe('1');

  // Where the old one is gone for good.
  await subscriber.stop();
  await publisher.sql('insert into told values (3)');
  await restored.sql('alter system reset max_logical_replication_workers');
  await folder.stop(data);
  const again = await folder.start(data);
  while ((await again.value(`select count(*) from told where n = 3`)) !== '1')
    await again.value('select pg_sleep(0.05)');
  await folder.stop(data);
});
