import { describe, expect, test } from 'vitest';
import { expectFailure, expectRestores, fileStorage, succeed, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
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

  test('that hands out its sessions in turn is refused, and so is restoring through it', async () => {
    await using pooler = await startPgBouncer('transaction', { server_round_robin: '1', min_pool_size: '8' });
    await using database = await createDatabase({ sql: 'CREATE TABLE filler AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    await succeed(['backup'], { ...storage.env, DATABASE_URL: database.url });
    const url = urlOf(`${database.name} 2`, { port: pooler.port });
    for (const args of [['restore', 'latest', '--to-url', url], ['backup']]) {
      const env = { ...storage.env, DATABASE_URL: urlOf(database.name, { port: pooler.port }) };
      expectFailure(await runPgark(args, { env }), refusal);
    }
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
