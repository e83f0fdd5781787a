import { Client } from 'pg';
import { expect, test } from 'vitest';
import { createSampleDatabase } from '../../src/demo/sample-database.ts';
import { pgarkJson, s3Storage, succeed } from '../support/backups.ts';
import { Cluster } from '../support/cluster.ts';
import { workFolder } from '../support/drills.ts';

test('the demonstration’s database passes its drill in every format', async () => {
  await using storage = await s3Storage();
  await using work = await workFolder();
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await cluster.sql('CREATE DATABASE demo');
  const client = new Client({ host: '127.0.0.1', port: cluster.port, user: 'postgres', database: 'demo' });
  await client.connect();
  await createSampleDatabase(client, { scale: 0.002 });
  const { rows } = await client.query<{ count: string }>('SELECT count(*) FROM sales.order_item');
  await client.end();
  const url = `postgres://postgres@127.0.0.1:${cluster.port}/demo?sslmode=disable`;
  const env = { ...storage.env, DATABASE_URL: url };
  const all = `select count(*) = ${rows[0]?.count} from sales.order_item`;
  for (const [format, kind, by] of [
    ['plain', 'logical', 'statements'],
    ['directory', 'logical', 'hashes'],
    ['physical', 'physical', 'files'],
  ] as const) {
    await succeed(['backup', '--format', format], env);
    const drill = ['drill', '--kind', kind, '--work-dir', work.path];
    const drilled = await pgarkJson([...drill, '--assert', all], env);
    expect(drilled).toMatchObject({ state: 'passed', assertions: 1, compared: { by } });
    await work.expectEmpty();
  }
});
