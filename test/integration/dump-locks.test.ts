import { Client } from 'pg';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/log.ts';
import { Secret } from '../../src/common/secret.ts';
import { lockAllTables } from '../../src/formats/directory/lock-tables.ts';
import { dumpPlain } from '../../src/formats/plain/dump.ts';
import { connect } from '../../src/postgres/client/connect.ts';
import type { ConnectionParameters } from '../../src/postgres/client/connection-parameters.ts';
import { chooseProgram, findPrograms } from '../../src/postgres/client/programs.ts';
import { startThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase } from '../support/postgres.ts';

/** Reads the plain dump to its end. */
async function dumped(connection: ConnectionParameters, lockWaitMs: number): Promise<void> {
  const session = await connect(connection, { applicationName: 'test' });
  const [facts] = await session.query<{ major: number }>(
    `select current_setting('server_version_num')::int / 10000 as major`,
  );
  await session.close();
  const serverMajor = facts?.major ?? 0;
  const dump = dumpPlain({
    connection,
    pgDump: chooseProgram('pg_dump', await findPrograms('pg_dump'), serverMajor),
    serverMajor,
    excludeTableData: [],
    applicationName: 'test',
    lockWaitMs,
    logger: silentLogger,
  });
  for await (const _ of dump);
}

test('a dump gives up when another session keeps a table locked, and says where to look', async () => {
  await using database = await createDatabase({ sql: 'CREATE TABLE busy (a int); CREATE TABLE free (a int)' });
  const holder = await database.connect();
  await holder.query('BEGIN; LOCK TABLE busy IN ACCESS EXCLUSIVE MODE');
  const { password, ...server } = postgresFacts();
  const connection = {
    ...server,
    password: new Secret(password),
    database: database.name,
    sslMode: 'disable',
  } as const;
  await expect(dumped(connection, 300)).rejects.toMatchObject({
    code: 'dump-failed',
    message: expect.stringContaining('canceling statement due to statement timeout'),
    hint: expect.stringMatching(/another session holds a lock .*pg_locks/),
  });
  await holder.end();
});

test('a dump for whose locks the server has no room says what to raise', async () => {
  const settings = { max_locks_per_transaction: '10', max_connections: '10', autovacuum: 'off' };
  await using server = await startThrowawayServer({ listen: 'tcp', settings });
  const client = new Client({ connectionString: server.url().reveal() });
  await client.connect();
  for (let table = 1; table <= 100; table++) await client.query(`CREATE TABLE "table ${table}" (a int)`);
  // What it has got it keeps.
  await expect(client.query('SELECT pg_advisory_lock(n) FROM generate_series(1, 100000) n')).rejects.toThrow('memory');
  // Enough for other queries.
  await client.query('SELECT pg_advisory_unlock(n) FROM generate_series(1, 40) n');
  const { host, port, user, password, database } = server;
  const connection = { host, port, user, password, database, sslMode: 'disable' } as const;
  const session = await connect(connection, { applicationName: 'test' });
  const failure = { code: 'dump-failed', hint: expect.stringContaining('raise max_locks_per_transaction') };
  await expect(dumped(connection, 200_000)).rejects.toMatchObject(failure);
  await expect(lockAllTables(session, systemClock)).rejects.toMatchObject({
    ...failure,
    message: 'the server has no room for locks on 100 tables',
  });
  await session.close();
  await client.end();
});
