import { afterEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { Secret } from '../../src/common/secret.ts';
import { lockAllTables } from '../../src/formats/directory/lock-tables.ts';
import { readTablePiece } from '../../src/formats/directory/read-piece.ts';
import { connect, type Session } from '../../src/postgres/client/connect.ts';
import { rowCountsOf, warningsTo } from '../support/archives.ts';
import { untilActivity } from '../support/backups.ts';
import { STORM_SQL, startStorm, stormDamage } from '../support/ddl-storm.ts';
import { backUp, backupsIn, errorOf, fileDestination } from '../support/destinations.ts';
import { postgresFacts } from '../support/facts.ts';
import { interrupted, interruptPgDump } from '../support/interruptions.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

afterEach(() => vi.unstubAllEnvs());

const IN_PIECES = { format: 'directory', pieceBytes: 256 * 1024, jobs: 1 } as const;
const filled = (table: string, rows: number): string =>
  `CREATE TABLE ${table} AS SELECT n, repeat(md5(n::text), 8) AS text FROM generate_series(1, ${rows}) n;`;

test('a schema that takes the name of another one does not give its rows for those', async () => {
  await using database = await createDatabase({
    sql: `${filled('first', 5000)} CREATE SCHEMA live; CREATE SCHEMA staged; ${filled('live.t', 100)} ${filled('staged.t', 200)}
      ${filled('live.cut', 3000)} ${filled('staged.cut', 4000)}`,
  });
  await using place = await fileDestination('place');
  const swap = 'ALTER SCHEMA live RENAME TO former; ALTER SCHEMA staged RENAME TO live';
  const destination = interrupted(place.store, 2, () => database.query(swap));
  const outcome = await backUp(database, [destination], { ...IN_PIECES, jobs: 2 });
  expect(await rowCountsOf(outcome, place.store)).toEqual({
    'public.first': 5000,
    'live.t': 100,
    'staged.t': 200,
    'live.cut': 3000,
    'staged.cut': 4000,
  });
});

/** A session as the dump has them. */
async function sessionOn(database: TestDatabase): Promise<AsyncDisposable & { readonly session: Session }> {
  const { password, ...server } = postgresFacts();
  const parameters = {
    ...server,
    password: new Secret(password),
    database: database.name,
    sslMode: 'disable',
  } as const;
  const session = await connect(parameters, { applicationName: 'test' });
  return { session, [Symbol.asyncDispose]: () => session.close() };
}

/** The session, and what somebody else does before and after each of its queries. */
function interposed(
  session: Session,
  { before, after }: { readonly before?: (sql: string) => Promise<void>; readonly after?: () => Promise<void> },
): Session {
  const query: Session['query'] = async (sql, values) => {
    await before?.(sql);
    const rows = await session.query<never>(sql, values);
    await after?.();
    return rows;
  };
  return Object.assign(Object.create(session), { query, copyOut: session.copyOut.bind(session) });
}

test('a schema that takes the name in the very moment costs a second try', async () => {
  await using database = await createDatabase({
    sql: `CREATE SCHEMA live; CREATE SCHEMA staged; ${filled('live.t', 100)} ${filled('staged.t', 200)}`,
  });
  const [table] = await database.query<{ oid: number }>(`SELECT 'live.t'::regclass::oid AS oid`);
  await using dumping = await sessionOn(database);
  let queries = 0;
  const racing = interposed(dumping.session, {
    after: async () => {
      queries += 1;
      if (queries > 1) return;
      await database.query('ALTER SCHEMA live RENAME TO former; ALTER SCHEMA staged RENAME TO live');
    },
  });
  const piece = {
    kind: 'table',
    file: '1.dat',
    entry: 1,
    oid: table?.oid ?? 0,
    columns: 'n',
    condition: '',
    bytes: 0,
  } as const;
  const read = async (): Promise<number> => {
    const signal = new AbortController().signal;
    const { stream, rows } = readTablePiece(racing, piece, { encoding: 'UTF8', onBytes: () => {}, signal });
    for await (const _ of stream);
    return rows();
  };
  await expect(read()).rejects.toMatchObject({
    code: 'postgres-failed',
    message: expect.stringContaining('another name'),
  });
  expect(await read()).toBe(100);
});

test('a table that was made since the tables were listed is locked before it is read', async () => {
  await using database = await createDatabase({ sql: filled('early', 10) });
  await using dumping = await sessionOn(database);
  let isMade = false;
  const racing = interposed(dumping.session, {
    before: async (sql) => {
      if (isMade || !sql.includes('LOCK TABLE')) return;
      isMade = true;
      await database.query(filled('late', 10));
    },
  });
  const { tables } = await lockAllTables(racing, systemClock);
  expect(tables.map(({ sql }) => sql)).toEqual(['public.early', 'public.late']);
  const locked = await database.query(
    `SELECT FROM pg_locks WHERE relation = 'late'::regclass AND granted AND pid = $1`,
    [dumping.session.announcedPid],
  );
  expect(locked).toHaveLength(1);
});

test('a REINDEX need not wait for the end of the dump', async () => {
  await using database = await createDatabase({ sql: `${filled('data', 5000)} CREATE INDEX i ON data (n);` });
  await using place = await fileDestination('place');
  const reindex = (): Promise<unknown> => database.query(`SET lock_timeout = '200s'; REINDEX INDEX i`);
  const outcome = await backUp(database, [interrupted(place.store, 3, reindex)], IN_PIECES);
  expect(await rowCountsOf(outcome, place.store)).toEqual({ 'public.data': 5000 });
});

test('a dump that waits for a table holds no other, which whoever has that table may want', async () => {
  await using database = await createDatabase({ sql: `${filled('a', 100)} ${filled('b', 100)}` });
  await using place = await fileDestination('place');
  const migration = await database.connect();
  await migration.query('BEGIN; ALTER TABLE b ADD COLUMN added int');
  const running = backUp(database, [place], IN_PIECES);
  await untilActivity(database, `application_name LIKE 'pgark backup %' AND wait_event_type = 'Lock'`);
  await migration.query(`SET LOCAL lock_timeout = '200s'; ALTER TABLE a ADD COLUMN added int; COMMIT`);
  await migration.end();
  expect(await rowCountsOf(await running, place.store)).toEqual({ 'public.a': 100, 'public.b': 100 });
});

test('what pg_dump misses because it was renamed makes the dump begin anew; what it goes on missing is told', async () => {
  await using database = await createDatabase({ sql: `CREATE SCHEMA s0; ${filled('s0.t', 100)}` });
  await using place = await fileDestination('place');
  await using directory = await makeTempDirectory();
  const rename = `DO $$ DECLARE s text := (SELECT relnamespace::regnamespace FROM pg_class WHERE relname = 't');
    BEGIN EXECUTE format('ALTER SCHEMA %I RENAME TO %I', s, 's' || substr(s, 2)::int + 1); END $$`;
  await interruptPgDump(directory.path, 1, rename);
  const warnings: string[] = [];
  const outcome = await backUp(database, [place], { ...IN_PIECES, logger: warningsTo(warnings) });
  expect(warnings).toContain('dump.begun_anew');
  expect(await rowCountsOf(outcome, place.store)).toEqual({ 's1.t': 100 });

  await interruptPgDump(directory.path, 100, rename);
  const error = await errorOf(backUp(database, [place], { ...IN_PIECES, haste: 20 }));
  expect(error).toMatchObject({ code: 'dump-failed', message: expect.stringMatching(/"s\d+(\.t)?" does not exist/) });
});

test('a storm of changes to tables leaves each backup right, and kills no change', async () => {
  await using database = await createDatabase({ sql: STORM_SQL });
  await using place = await fileDestination('place');
  await using storm = await startStorm(() => database.connect(), 8000);
  for (let round = 0; round < 2 || storm.count() === 0; round++) {
    const outcome = await backUp(database, [place], { ...IN_PIECES, pieceBytes: 16 * 1024, jobs: 3 });
    expect(stormDamage(await rowCountsOf(outcome, place.store))).toEqual([]);
  }
  expect(storm.errors).toEqual([]);
  expect((await backupsIn(place.store)).leftovers).toEqual([]);
});
