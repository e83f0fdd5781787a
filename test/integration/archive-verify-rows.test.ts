import { describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { operationContext } from '../../src/operations/context.ts';
import { download } from '../../src/operations/download.ts';
import { verify } from '../../src/operations/verify.ts';
import { contentsOf } from '../support/archives.ts';
import { filePlace, linesOf, NO_KEYS, restoreInto } from '../support/archive-restoring.ts';
import { backUp, fileDestination, outcomesOf } from '../support/destinations.ts';
import { createDatabase, runAsSuperuser, type TestDatabase } from '../support/postgres.ts';
import { databaseNames, futureDatabase } from '../support/restoring.ts';
import { RICH_SQL } from '../support/rich-database.ts';
import { makeStockArchive } from '../support/stock-archive.ts';
import { makeTempDirectory } from '../support/temp.ts';

const IN_PIECES = { format: 'directory', pieceBytes: 64 * 1024, jobs: 3 } as const;

/** What is written as the session says, rows that go to their partitions by way of another table, and many of them. */
const MORE_SQL = `
CREATE TABLE settings (at timestamptz, took interval, day date, bytes bytea, f float8);
INSERT INTO settings SELECT now() + n * interval '1 hour', n * interval '1 day 2 hours', now()::date + n, '\\x00ff5c', n / 7.0
  FROM generate_series(1, 100) n;
CREATE TABLE hashed (m mood, n int) PARTITION BY HASH (m);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 (n int, m mood);
ALTER TABLE hashed ATTACH PARTITION hashed_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT (enum_range(NULL::mood))[1 + n % 3], n FROM generate_series(1, 300) n;
CREATE TABLE many AS SELECT n, repeat(md5(n::text), 4) AS text FROM generate_series(1, 5000) n;
CREATE TABLE no_columns ();
INSERT INTO no_columns SELECT FROM generate_series(1, 3);`;

const ROWS_LOADED = '(SELECT count(*) FROM public.spoilt) = 2000';

/**
 * Changes a row behind the restore's back, by the check of another table whose row is loaded at the same time, in no database
 * but a restored one.
 */
const spoilSql = (change: string, isLoaded = ROWS_LOADED): string => `
CREATE TABLE spoilt AS SELECT n, 'row ' || n AS text FROM generate_series(1, 2000) n;
CREATE FUNCTION spoil() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
  IF current_database() LIKE '%_restoring_%' THEN
    WHILE NOT (${isLoaded}) LOOP PERFORM pg_sleep(0.01); END LOOP;
    ${change};
  END IF;
  RETURN 1;
END $$;
CREATE TABLE spoiling (n int CHECK (public.spoil() = n));
INSERT INTO spoiling VALUES (1);`;

function warningLogger(): { readonly logger: Logger; readonly warnings: readonly string[] } {
  const warnings: string[] = [];
  const logger: Logger = { ...silentLogger, warning: (event) => void warnings.push(event), child: () => logger };
  return { logger, warnings };
}

async function expectNothingOf(restored: TestDatabase): Promise<void> {
  expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
}

describe('a restore that is compared with what was dumped', () => {
  test('is the same, whatever the settings of the database that was dumped, in pieces and by way of other tables', async () => {
    await using place = await fileDestination('place');
    await using source = await createDatabase({ sql: RICH_SQL });
    await source.query(MORE_SQL);
    const quoted = `"${source.name.replaceAll('"', '""')}"`;
    await runAsSuperuser(
      `ALTER DATABASE ${quoted} SET timezone = 'Asia/Tokyo'; ALTER DATABASE ${quoted} SET bytea_output = 'escape';
       ALTER DATABASE ${quoted} SET datestyle = 'German'`,
    );
    await using restored = futureDatabase();
    const outcome = await backUp(source, [place], IN_PIECES);
    const { manifest } = outcomesOf(outcome)['place'] ?? {};
    if (manifest === undefined) throw new Error('there is no backup');
    const { tables, files } = await contentsOf(place.store, manifest);
    expect(tables.filter(({ hash }) => hash === undefined)).toEqual([]);
    expect(files.filter(({ piece }) => piece?.pages !== undefined).length).toBeGreaterThan(3);
    const { logger, warnings } = warningLogger();
    const { plan } = await restoreInto(restored, place.store, { verifyRows: true, context: { logger } });
    expect(plan).toContain('read all rows once more and compare them with what is recorded');
    expect(warnings).toEqual([]);
    // On another server, or by other numbers of a type's values, rows go into other partitions.
    const hashed = 'SELECT m, n FROM hashed ORDER BY n';
    expect(await restored.query(hashed)).toEqual(await source.query(hashed));
    for (const database of [source, restored]) await database.query('DROP TABLE hashed');
    expect(await linesOf(restored)).toEqual(await linesOf(source));
    const request = { store: place.store, filter: {}, selector: undefined, deep: true, keys: NO_KEYS };
    expect((await verify(request, operationContext())).backups).toMatchObject([{ depth: 'read', failure: undefined }]);
  });

  test.each([
    ['one row has another value', `UPDATE public.spoilt SET text = 'row 6' WHERE n = 500`, 2000],
    ['one row is missing', 'DELETE FROM public.spoilt WHERE n = 500', 1999],
    ['one row is there for another', 'UPDATE public.spoilt SET n = 6, text = $q$row 6$q$ WHERE n = 500', 2000],
  ])('fails where %s, although every digest is right', async (_what, change, rows) => {
    await using place = await fileDestination('place');
    await using source = await createDatabase({ name: 'src', sql: spoilSql(change) });
    await backUp(source, [place], IN_PIECES);
    const restored = futureDatabase('never');
    await expect(restoreInto(restored, place.store, { verifyRows: true })).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringMatching(
        new RegExp(
          `public\\.spoilt has ${rows} rows of hash [0-9a-f]{32}, and 2000 rows of hash [0-9a-f]{32} were recorded`,
        ),
      ),
    });
    await expectNothingOf(restored);
    await using unverified = futureDatabase();
    await restoreInto(unverified, place.store);
  });

  test('has large objects of every length, more of them than are read at once', async () => {
    await using place = await fileDestination('place');
    await using source = await createDatabase({
      name: 'src',
      sql: `SELECT lo_from_bytea(5000 + n, decode(repeat(md5(n::text), n), 'hex')) FROM generate_series(0, 40) n;
        SELECT lo_from_bytea(0, decode(repeat('b0', n), 'hex')) FROM unnest(ARRAY[65535, 65536, 65537, 1114112]) n`,
    });
    const { manifest } = outcomesOf(await backUp(source, [place], IN_PIECES))['place'] ?? {};
    if (manifest === undefined) throw new Error('there is no backup');
    const { files } = await contentsOf(place.store, manifest);
    const stored = files.flatMap(({ largeObject, plainSha256: sha256 }) =>
      largeObject === undefined ? [] : [{ oid: largeObject.oid, sha256 }],
    );
    const expected = await source.query(
      `SELECT oid::text, encode(sha256(lo_get(oid)), 'hex') AS sha256 FROM pg_largeobject_metadata`,
    );
    expect(expected).toHaveLength(45);
    expect(Object.fromEntries(stored.map(({ oid, sha256 }) => [oid, sha256]))).toEqual(
      Object.fromEntries(expected.map(({ oid, sha256 }) => [oid, sha256])),
    );
  });

  test('fails where a large object differs', async () => {
    await using place = await fileDestination('place');
    await using source = await createDatabase({
      name: 'src',
      sql: `SELECT lo_from_bytea(4711, 'as it was'); ${spoilSql(`PERFORM lo_put(4711, 0, 'X')`, `lo_get(4711) = 'as it was'`)}`,
    });
    await backUp(source, [place], IN_PIECES);
    const restored = futureDatabase('never');
    await expect(restoreInto(restored, place.store, { verifyRows: true })).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining('large object 4711 has another content'),
    });
    await expectNothingOf(restored);
  });

  test('by what a backup without hashes has, which is the number of rows', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({
      name: 'src',
      sql: spoilSql('DELETE FROM public.spoilt WHERE n = 500'),
    });
    await makeStockArchive(source, place.store);
    const restored = futureDatabase('never');
    const { logger, warnings } = warningLogger();
    await expect(restoreInto(restored, place.store, { verifyRows: true, context: { logger } })).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining('public.spoilt has 1999 rows, and 2000 rows were recorded'),
    });
    expect(warnings).toEqual(['restore.rows_counted']);
    await expectNothingOf(restored);
  });

  test('is not needed to find rows that are not those that were hashed', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    const hash = '0'.repeat(32);
    await makeStockArchive(source, place.store, {
      hashed: true,
      falsify: ({ files, tables, ...rest }) => ({
        ...rest,
        files: files.map((file) => (file.piece === undefined ? file : { ...file, piece: { ...file.piece, hash } })),
        tables: tables.map((table) => ({ ...table, hash })),
      }),
    });
    const { backups } = await verify(
      { store: place.store, filter: {}, selector: undefined, deep: true, keys: NO_KEYS },
      operationContext(),
    );
    const failure = { code: 'corrupt', message: expect.stringContaining('holds other rows than were recorded') };
    expect(backups).toMatchObject([{ failure }]);
    for (const verifyFirst of [true, false]) {
      const restored = futureDatabase('never');
      await expect(restoreInto(restored, place.store, { verifyFirst })).rejects.toMatchObject(failure);
      await expectNothingOf(restored);
    }
    await using folder = await makeTempDirectory();
    const request = { store: place.store, filter: {}, selector: { kind: 'latest' }, keys: NO_KEYS } as const;
    const downloading = download(
      { ...request, folder: folder.join('changed'), compression: 'gzip' },
      operationContext(),
    );
    await expect(downloading).rejects.toMatchObject(failure);
  });

  test('is refused for a backup that has nothing recorded, before anything is made', async () => {
    await using place = await fileDestination('place');
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    await backUp(source, [place]);
    const restored = futureDatabase('never');
    await expect(restoreInto(restored, place.store, { verifyRows: true })).rejects.toMatchObject({
      code: 'restore-failed',
      message: expect.stringContaining('nothing recorded'),
    });
    await expectNothingOf(restored);
  });
});
