import { expect, test } from 'vitest';
import { connect } from '../../src/postgres/client/connect.ts';
import { succeed } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { fileStorage } from '../support/storage.ts';

/** Of a database with a large object, on a server of its own. */
async function setUp() {
  const server = await Cluster.start();
  const storage = await fileStorage();
  await server.sql('CREATE DATABASE source');
  const url = (database: string): string => {
    const parsed = new URL(server.url);
    parsed.pathname = `/${database}`;
    return parsed.href;
  };
  const connection = { ...server.connection, database: 'source' };
  const session = await connect(connection, { applicationName: 'test' });
  await session.query(`CREATE TABLE t AS SELECT 1 AS a; SELECT lo_from_bytea(77, 'large')`);
  await session.close();
  const env = { ...storage.env, DATABASE_URL: url('source') };
  await succeed(['backup', '--format', 'directory'], env);
  return {
    server,
    env,
    [Symbol.asyncDispose]: async () => {
      await storage[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

const databasesOf = async (server: Cluster): Promise<readonly unknown[]> =>
  (await server.sql('SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1')).map((row) => row['datname']);

test('a restore ends at the first signal while CREATE DATABASE waits for a standby that is gone, and leaves nothing', async () => {
  await using world = await setUp();
  const { server, env } = world;
  const before = await databasesOf(server);
  await server.set('synchronous_standby_names', 'gone');
  const interrupt = new AbortController();
  const restored = runPgark(['restore', 'latest', '--to-db', 'other'], { env, signal: interrupt.signal });
  await server.until(
    `exists (select from pg_stat_activity where query ~ '^CREATE DATABASE' and wait_event = 'SyncRep')`,
  );
  interrupt.abort();
  expect(await restored).toMatchObject({ exitCode: 130, stderr: expect.stringContaining('interrupted') });
  expect(await databasesOf(server)).toEqual(before);
});

test('one ends while a large object waits for a lock', async () => {
  await using world = await setUp();
  const { server, env } = world;
  await server.sql('CREATE DATABASE other');
  const holder = await connect({ ...server.connection, database: 'other' }, { applicationName: 'holder' });
  await holder.query('BEGIN; LOCK TABLE pg_catalog.pg_largeobject IN EXCLUSIVE MODE');
  const interrupt = new AbortController();
  const restored = runPgark(['restore', 'latest', '--to-db', 'other'], { env, signal: interrupt.signal });
  const waiting = `exists (select from pg_stat_activity where query ~ 'lo_put' and application_name ~ '^pgark' and wait_event_type = 'Lock')`;
  await server.until(waiting);
  interrupt.abort();
  // To drop what was loaded waits for the lock too.
  await server.until(`not ${waiting}`);
  await holder.close();
  expect(await restored).toMatchObject({ exitCode: 130, stderr: expect.stringContaining('interrupted') });
  const rest = await connect({ ...server.connection, database: 'other' }, { applicationName: 'test' });
  expect(await rest.query(`SELECT to_regclass('t') AS t, (SELECT count(*)::int FROM pg_largeobject) AS n`)).toEqual([
    { t: null, n: 0 },
  ]);
  await rest.close();
});
