import { describe, expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { analyzeDatabase, type NotAnalyzed } from '../../src/postgres/client/analyze.ts';
import { connect, type Session } from '../../src/postgres/client/connect.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase, createRole, type Login, openDatabase, type TestDatabase } from '../support/postgres.ts';
import { connected } from '../support/restoring.ts';

/**
 * Tables of every kind that has rows, as many bytes as three sessions are worth, and one that fails: its index asks a function that has
 * been changed since.
 */
const SQL = `CREATE SCHEMA "od'd";
  CREATE TABLE "od'd"."ta""ble" AS SELECT generate_series(1, 10) AS a;
  CREATE TABLE parts (a int) PARTITION BY RANGE (a);
  CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (a);
  CREATE TABLE parts_lowest PARTITION OF parts_low FOR VALUES FROM (0) TO (10);
  INSERT INTO parts SELECT generate_series(1, 9);
  CREATE TABLE parent AS SELECT 1 AS a;
  CREATE TABLE child () INHERITS (parent);
  CREATE MATERIALIZED VIEW stored AS SELECT 1 AS a;
  CREATE UNLOGGED TABLE large AS SELECT repeat(md5(n::text), 60) AS a FROM generate_series(1, 22000) n;
  CREATE TABLE failing AS SELECT 1 AS a;
  CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
  CREATE INDEX ON failing (f(a));
  CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN RAISE 'not today'; END$$`;
const ANALYZED = 'SELECT relname FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL ORDER BY 1';
const ALL_BUT_FAILING = ['child', 'large', 'parent', 'parts', 'parts_low', 'parts_lowest', 'stored', 'ta"ble'];

function connectTo({ name }: TestDatabase, login: Partial<Login> = {}): Promise<Session> {
  const { password, ...server } = { ...postgresFacts(), ...login };
  return connect(
    { ...server, password: new Secret(password), database: name, sslMode: 'disable' },
    { applicationName: 'test' },
  );
}

function analyzeBy(open: () => Promise<Session>): Promise<NotAnalyzed | undefined> {
  return analyzeDatabase({ open, sessionsMax: 3, signal: new AbortController().signal });
}

async function analyzed(database: TestDatabase): Promise<readonly string[]> {
  const rows = await database.query<{ relname: string }>(ANALYZED);
  return rows.map(({ relname }) => relname);
}

describe.concurrent('statistics of a whole database', () => {
  test('are gathered of all tables but those that fail, by several sessions', async () => {
    await using database = await createDatabase({ sql: SQL });
    let opened = 0;
    const failed = await analyzeBy(() => {
      opened += 1;
      return connectTo(database);
    });
    expect(failed).toMatchObject({ tables: 1, why: expect.stringContaining('not today') });
    expect(await analyzed(database)).toEqual(ALL_BUT_FAILING);
    expect(opened).toBe(3);
  });

  test('are gathered by the one session that the server gives', async () => {
    await using database = await createDatabase({ sql: SQL });
    let opened = 0;
    await analyzeBy(() => {
      opened += 1;
      return opened === 1 ? connectTo(database) : Promise.reject(new Error('too many connections'));
    });
    expect(await analyzed(database)).toEqual(ALL_BUT_FAILING);
  });

  test('are left to the server where a schema may not be used, and those of the role’s own tables are gathered', async () => {
    await using role = await createRole();
    await using database = await createDatabase({ owner: role, sql: 'CREATE TABLE own AS SELECT 1 AS a' });
    await openDatabase(database.name).query('CREATE SCHEMA hidden; CREATE TABLE hidden.other AS SELECT 1 AS a');
    expect(await analyzeBy(() => connectTo(database, role))).toBeUndefined();
    expect(await analyzed(database)).toContain('own');
  });

  test('are not gathered on, and no session stays, when it is aborted', async () => {
    await using database = await createDatabase({ sql: SQL });
    const stop = new AbortController();
    const opened: Session[] = [];
    const open = async (): Promise<Session> => {
      const session = await connectTo(database);
      opened.push(session);
      if (opened.length === 3) stop.abort(new Error('enough'));
      return session;
    };
    await connected(database, async (client) => {
      await client.query(`BEGIN; LOCK TABLE "od'd"."ta""ble", parent, child, failing IN SHARE UPDATE EXCLUSIVE MODE`);
      await expect(analyzeDatabase({ open, sessionsMax: 3, signal: stop.signal })).rejects.toThrow('enough');
    });
    expect(opened.map(({ alive }) => alive)).toEqual([false, false, false]);
  });
});
