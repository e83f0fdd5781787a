import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster } from '../support/cluster.ts';
import { linesOf, Reader, scriptOf } from '../support/documented.ts';
import { readPage } from '../support/markdown.ts';
import { ServerFolder } from '../support/physical.ts';
import { startReceiver } from '../support/receiver-process.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';

// A server with a base backup, and WAL behind it, which the commands of the pages bring back.

let cluster: Cluster;
let folder: ServerFolder;
let who: Reader;
let bucket: TestBucket;
/** What stands in the pages for what only the server knows. */
let points: readonly (readonly [written: string | RegExp, actual: string])[];

beforeAll(async () => {
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  folder = await ServerFolder.make(cluster.binDir);
  // Who runs the server has to get at the storage, too: a bucket makes no difference between the two.
  bucket = await createBucket();
  const env = {
    ...bucket.env,
    DATABASE_URL: `postgres://postgres@127.0.0.1:${cluster.port}/shop`,
    BACKUP_FORMAT: 'physical',
    BACKUP_NAME: 'shop',
    PGHOST: '127.0.0.1',
    PGPORT: String(cluster.port),
    PGUSER: 'postgres',
  };
  who = await Reader.make(env);
  await cluster.sql('CREATE DATABASE shop');
  const shop = (sql: string): Promise<string> =>
    cluster.run('psql', ['-h', '127.0.0.1', '-p', env.PGPORT, '-U', 'postgres', '-d', 'shop', '-Atqc', sql]);
  await shop('CREATE TABLE orders AS SELECT n AS id FROM generate_series(1, 1000) AS n');
  const receiver = await startReceiver(env);
  await who.succeed('pgark backup');
  const xid = await shop('INSERT INTO orders VALUES (1001) RETURNING pg_current_xact_id()');
  await cluster.sql(`SELECT pg_create_restore_point('before_deploy')`);
  const lsn = await cluster.value('SELECT pg_current_wal_insert_lsn()');
  const time = await cluster.value(
    `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
  );
  await shop('DELETE FROM orders WHERE id > 1');
  points = [
    [/2026-11-20T09:41:07Z/, time],
    ['0/3000028', lsn],
    ['4711', xid.trim()],
    ['/srv/restored', folder.join('restored')],
  ];
  // What has not come by then is not archived by who is told to end.
  const end = await cluster.value('SELECT pg_current_wal_flush_lsn()');
  await cluster.until(`EXISTS (SELECT FROM pg_stat_replication WHERE flush_lsn >= '${end}')`);
  receiver.kill('SIGTERM');
  await receiver.ended;
});
afterAll(async () => {
  await folder[Symbol.asyncDispose]();
  await who[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
  await bucket.remove();
});

const filledIn = (line: string): string =>
  points.reduce((text, [written, actual]) => text.replace(written, actual), line);

test('docs/recovery.md: each way to a moment, one of them to its end, and one table out of it', async () => {
  const page = await readPage('docs/recovery.md');
  const ways = linesOf(scriptOf(page, 'each', 'The commands'));
  expect(ways).toHaveLength(6);
  for (const way of ways) {
    // Where each of them stops is what the tests of recovery are about.
    const { stdout } = await who.succeed(`${filledIn(way)} --plan`);
    expect(stdout).toContain(folder.join('restored'));
  }
  await who.succeed(filledIn(ways.find((way) => way.includes('--at')) ?? 'false'));
  const server = await folder.start(folder.join('restored'));
  expect(await server.value('SELECT count(*) FROM orders', 'shop')).toBe('1001');
  await folder.stop(folder.join('restored'));
  await rm(folder.join('restored'), { recursive: true });
  for (const line of linesOf(scriptOf(page, 'each', 'One database, or one table'))) await who.succeed(filledIn(line));
  expect((await who.succeed(`psql -d rescued -Atc 'select count(*) from orders'`)).stdout).toBe('1001\n');
});

test('docs/operations/runbook.md: the server is gone', async () => {
  await cluster.stop('immediate');
  const page = await readPage('docs/operations/runbook.md');
  const { stdout } = await who.succeed(filledIn(scriptOf(page, 'run-physical')));
  const server = folder.adopt(folder.join('restored'), cluster.port);
  expect(stdout).toContain('timeline 1');
  expect(await server.value('SELECT count(*) FROM orders', 'shop')).toBe('1');
});
