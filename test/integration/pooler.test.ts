import { describe, expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { connect } from '../../src/postgres/client/connect.ts';
import { refuseSharedSessions } from '../../src/postgres/client/pooler.ts';
import { expectFailure, expectRestores, fileStorage, succeed, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { errorOf, fileDestination, keysOf } from '../support/destinations.ts';
import { postgresFacts } from '../support/facts.ts';
import { backUpServer } from '../support/physical.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { createDatabase } from '../support/postgres.ts';

const refusal = {
  exit: 1,
  message: /127\.0\.0\.1:\d+ is a connection pooler that gives sessions to others between transactions/,
  hint: /use the host and port of the server itself: as a rule 5432/,
};

describe('a server behind PgBouncer', () => {
  test.each(['transaction', 'statement'] as const)('with pool_mode = %s is refused before any work', async (mode) => {
    await using pooler = await startPgBouncer(mode);
    await using database = await createDatabase({ sql: 'CREATE TABLE filler AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    const env = { ...storage.env, DATABASE_URL: urlOf(database.name, { port: pooler.port }) };
    expectFailure(await runPgark(['backup'], { env }), refusal);
    expect(await storage.keys()).toEqual([]);
  });

  test.each([0, 1])('that hands out two sessions in turn is found out after %i more questions', async (questions) => {
    await using pooler = await startPgBouncer('transaction', { server_round_robin: '1', default_pool_size: '2' });
    await using database = await createDatabase();
    const { host, user, password } = postgresFacts();
    const parameters = { host, port: pooler.port, user, password: new Secret(password), database: database.name };
    const open = () => connect({ ...parameters, sslMode: 'disable' }, { applicationName: 'pgark test' });
    const [session, other] = await Promise.all([open(), open()]);
    // Transactions at the same time, so that both of the server's sessions are there.
    for (const each of [session, other]) await each.query('BEGIN');
    for (const each of [session, other]) await each.query('COMMIT');
    await other.close();
    const [row] = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    for (let question = 0; question < questions; question++) await session.query('SELECT 1');
    await expect(refuseSharedSessions(session, row?.pid ?? 0)).rejects.toMatchObject({ code: 'postgres-pooler' });
    await session.close();
  });

  test('is refused for a physical backup too', async () => {
    await using pooler = await startPgBouncer('transaction');
    await using database = await createDatabase({ sql: 'CREATE TABLE filler AS SELECT 1 AS n' });
    await using disk = await fileDestination('disk');
    const { host, user, password } = postgresFacts();
    const server = { host, port: pooler.port, user, password: new Secret(password), database: database.name };
    const error = await errorOf(backUpServer({ connection: { ...server, sslMode: 'disable' } }, [disk]));
    expect(error).toMatchObject({ code: 'postgres-pooler', message: expect.stringMatching(refusal.message) });
    expect(await keysOf(disk.store)).toEqual([]);
  });

  test('is refused for a restore too', async () => {
    await using pooler = await startPgBouncer('transaction');
    await using database = await createDatabase({ sql: 'CREATE TABLE filler AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    await succeed(['backup'], { ...storage.env, DATABASE_URL: database.url });
    const url = urlOf(`${database.name} 2`, { port: pooler.port });
    const env = { ...storage.env, DATABASE_URL: urlOf(database.name, { port: pooler.port }) };
    expectFailure(await runPgark(['restore', 'latest', '--to-url', url], { env }), refusal);
  });

  test('that keeps sessions is as good as the server itself', async () => {
    await using pooler = await startPgBouncer('session');
    await using database = await createDatabase({ sql: 'CREATE TABLE filler AS SELECT generate_series(1, 1000) AS n' });
    await using storage = await fileStorage();
    await succeed(['backup'], { ...storage.env, DATABASE_URL: urlOf(database.name, { port: pooler.port }) });
    await expectRestores(database, storage);
  });

  test('that has a single session to give says so instead of waiting', async () => {
    await using pooler = await startPgBouncer('session', { default_pool_size: '1' });
    await using database = await createDatabase();
    await using storage = await fileStorage();
    const env = { ...storage.env, DATABASE_URL: urlOf(database.name, { port: pooler.port }) };
    expectFailure(await runPgark(['backup'], { env }), {
      exit: 1,
      message: /has no second session to give; a backup needs two at once/,
      hint: /host and port of the server itself/,
    });
  });
});
