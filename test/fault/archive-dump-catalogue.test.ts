import { afterEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { Secret } from '../../src/common/secret.ts';
import { begin } from '../../src/formats/directory/begin.ts';
import { chooseProgram, findPrograms } from '../../src/postgres/client/programs.ts';
import { restoreInto } from '../support/archive-restoring.ts';
import { rowCountsOf, warningsTo } from '../support/archives.ts';
import { backUp, backupsIn, errorOf, fileDestination } from '../support/destinations.ts';
import { postgresFacts } from '../support/facts.ts';
import { interrupted, interruptPgDump } from '../support/interruptions.ts';
import { createDatabase } from '../support/postgres.ts';
import { futureDatabase } from '../support/restoring.ts';
import { makeTempDirectory } from '../support/temp.ts';

afterEach(() => vi.unstubAllEnvs());

const IN_PIECES = { format: 'directory', pieceBytes: 256 * 1024, jobs: 1 } as const;

const SEEN_SQL = `
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE VIEW below AS SELECT one() AS n;
CREATE VIEW above AS SELECT n, 'sad'::mood AS mood FROM below;
CREATE TABLE kept AS SELECT 1 AS n;
`;

test.each([
  ['a function is renamed', 'ALTER FUNCTION one() RENAME TO first'],
  ['a type gets into another schema', 'CREATE SCHEMA s; ALTER TYPE mood SET SCHEMA s'],
  ['a value of an enum is renamed', `ALTER TYPE mood RENAME VALUE 'sad' TO 'bad'`],
  ['a column of a view is renamed', 'ALTER VIEW below RENAME COLUMN n TO m'],
  [
    'a view comes to need what has just been made',
    `CREATE FUNCTION two() RETURNS int LANGUAGE sql AS 'SELECT 2'; CREATE OR REPLACE VIEW below AS SELECT two() AS n`,
  ],
])('the dump begins anew where, while pg_dump begins, %s', async (_what, sql) => {
  await using database = await createDatabase({ sql: SEEN_SQL });
  await using place = await fileDestination('place');
  await using directory = await makeTempDirectory();
  await using restored = futureDatabase();
  const warnings: string[] = [];
  await interruptPgDump(directory.path, 1, sql);
  const outcome = await backUp(database, [place], { ...IN_PIECES, logger: warningsTo(warnings) });
  expect(warnings).toEqual(['dump.begun_anew']);
  expect(await rowCountsOf(outcome, place.store)).toEqual({ 'public.kept': 1 });
  vi.unstubAllEnvs();
  await restoreInto(restored, place.store);
  expect(await restored.query('SELECT * FROM above')).toEqual(await database.query('SELECT * FROM above'));
});

test('where something changes whenever the dump begins it is refused after some minutes, and what it was is told', async () => {
  await using database = await createDatabase({ sql: SEEN_SQL });
  await using directory = await makeTempDirectory();
  await interruptPgDump(directory.path, 1000, 'CREATE OR REPLACE VIEW below AS SELECT one() AS n');
  const { password, ...server } = postgresFacts();
  const warnings: string[] = [];
  const begun = begin({
    connection: { ...server, password: new Secret(password), database: database.name, sslMode: 'disable' },
    pgDump: chooseProgram('pg_dump', await findPrograms('pg_dump'), 15),
    serverMajor: 15,
    excludeTableData: [],
    applicationName: 'pgark backup test',
    patienceMs: 60_000,
    // Minutes pass in a second.
    clock: { ...systemClock, monotonicMs: () => 600 * systemClock.monotonicMs() },
    random: systemRandom,
    logger: warningsTo(warnings),
    signal: new AbortController().signal,
  });
  expect(await errorOf(begun)).toMatchObject({
    code: 'dump-failed',
    message:
      'tables or other objects were changed whenever the dump began, for 5 minutes: something was changed in pg_rewrite while pg_dump read the definitions',
    hint: expect.stringContaining('when no migration is under way'),
  });
});

test('what changes often, and in no definition, does not hold the dump up', async () => {
  await using database = await createDatabase({
    sql: `${SEEN_SQL}
      CREATE UNIQUE INDEX i ON kept (n); CREATE SEQUENCE s;
      CREATE TRIGGER t AFTER INSERT ON kept EXECUTE FUNCTION suppress_redundant_updates_trigger();
      CREATE TABLE parted (n int) PARTITION BY LIST (n);
      CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM kept;`,
  });
  await using place = await fileDestination('place');
  await using directory = await makeTempDirectory();
  const other = await database.connect();
  await other.query(
    'CREATE TEMP TABLE passing (n int CHECK (n > one())); CREATE TEMP VIEW seen AS SELECT n FROM passing',
  );
  const [temporary] = await database.query<{ name: string }>(
    `SELECT relnamespace::regnamespace::text AS name FROM pg_class WHERE relname = 'passing'`,
  );
  await interruptPgDump(
    directory.path,
    1,
    `DROP TABLE ${temporary?.name}.passing CASCADE; ANALYZE; REINDEX INDEX i; REFRESH MATERIALIZED VIEW counted; SELECT nextval('s');
     ALTER TABLE kept DISABLE TRIGGER t;
     CREATE TABLE made (n int REFERENCES kept (n)); CREATE TABLE parted_1 (n int); ALTER TABLE parted ATTACH PARTITION parted_1 FOR VALUES IN (1);
     CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1 AS one'; GRANT EXECUTE ON FUNCTION one TO PUBLIC;
     ALTER TYPE mood ADD VALUE 'calm'; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;`,
  );
  const warnings: string[] = [];
  const outcome = await backUp(database, [place], { ...IN_PIECES, logger: warningsTo(warnings) });
  await other.end();
  expect(warnings).toEqual([]);
  expect(await rowCountsOf(outcome, place.store)).toEqual({ 'public.kept': 1 });
});

const ROWS = 3000;
const USED_SQL = `
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TYPE unused AS ENUM ('one', 'two');
CREATE TYPE pair AS (first int, second int);
CREATE DOMAIN cheered AS mood CHECK (VALUE <> 'sad');
CREATE TYPE felt AS (mood cheered);
CREATE TABLE people AS SELECT n, repeat(md5(n::text), 8) AS text, ARRAY[ROW('glad')::felt] AS moods, ROW(1, 2)::pair AS pair
  FROM generate_series(1, ${ROWS}) n;
`;

test.each([
  ['of which a value is renamed', `ALTER TYPE mood RENAME VALUE 'glad' TO 'merry'`, 'mood'],
  ['that gets a field', 'ALTER TYPE pair ADD ATTRIBUTE third int', 'pair'],
  ['that loses a field', 'ALTER TYPE pair DROP ATTRIBUTE second', 'pair'],
])('rows of a type %s before all are read give no backup', async (_what, sql, type) => {
  await using database = await createDatabase({ sql: USED_SQL });
  await using place = await fileDestination('place');
  const destination = interrupted(place.store, 2, () => database.query(sql));
  expect(await errorOf(backUp(database, [destination], IN_PIECES))).toMatchObject({
    code: 'dump-failed',
    message: `type public.${type} was changed while the dump read tables that use it, such as public.people`,
  });
  expect(await backupsIn(place.store)).toEqual({ count: 0, leftovers: [] });
});

test('a type of which no row is written otherwise may change', async () => {
  await using database = await createDatabase({ sql: USED_SQL });
  await using place = await fileDestination('place');
  const change = `ALTER TYPE unused RENAME VALUE 'one' TO 'three'; ALTER TYPE pair RENAME ATTRIBUTE first TO begin;
    ALTER TYPE mood ADD VALUE 'calm' BEFORE 'glad'`;
  const destination = interrupted(place.store, 2, () => database.query(change));
  const outcome = await backUp(database, [destination], IN_PIECES);
  expect(await rowCountsOf(outcome, place.store)).toEqual({ 'public.people': ROWS });
});
