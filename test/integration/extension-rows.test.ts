import { escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import type { ArchiveContents } from '../../src/formats/directory/contents.ts';
import { filePlace, linesOf, restoreInto } from '../support/archive-restoring.ts';
import { makeConfigExtension } from '../support/config-extension.ts';
import { createDatabase, createRole, openDatabase } from '../support/postgres.ts';
import { dumpOf, makeBackup, pgark, said } from '../support/restoring.ts';
import { makeStockArchive } from '../support/stock-archive.ts';
import { fileStorage } from '../support/storage.ts';

const ROWS = `INSERT INTO parent VALUES (1, 'one'), (2, 'two'); INSERT INTO child VALUES (7, 1, 'seven'), (8, 0, 'eight')`;

/** What an extension has put there itself. */
const OWN_ROWS = [{ id: 0, label: 'of the extension itself' }];

describe('rows of users in tables of an extension', { timeout: 300_000 }, () => {
  test('are none yet where the extension alone is there, with its tables and their indexes', async (context) => {
    await using extension = await makeConfigExtension(context);
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: `CREATE EXTENSION ${extension.name}; ${ROWS}` });
    await using target = await createDatabase({ name: 'ext', sql: `CREATE EXTENSION ${extension.name}` });
    await makeBackup({ database: source, storage });
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', target.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(target)).toBe(await dumpOf(source));
  });

  test('give way to those of the backup with --clean, and the extension’s own stay', async (context) => {
    await using extension = await makeConfigExtension(context);
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: 'plain', sql: `CREATE EXTENSION ${extension.name}; ${ROWS}` });
    const before = await dumpOf(database);
    await makeBackup({ database, storage });
    await database.query(
      `DELETE FROM child WHERE id = 8; INSERT INTO parent VALUES (3, 'three'); CREATE TABLE t (a int)`,
    );
    const args = ['restore', 'latest', '--in-place', '--yes', database.name, '--clean'];
    expect(await pgark({ database, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(database)).toBe(before);
    expect(await database.query('SELECT * FROM parent WHERE id <= 0')).toEqual(OWN_ROWS);
  });

  test('are content, and are named where a restore is refused', async (context) => {
    await using extension = await makeConfigExtension(context);
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: 'CREATE TABLE t (a int)' });
    await using target = await createDatabase({ name: 'ext', sql: `CREATE EXTENSION ${extension.name}` });
    await makeBackup({ database: source, storage });
    await target.query(ROWS);
    const before = await dumpOf(target);
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', target.name]);
    expect(result.exitCode).toBe(1);
    expect(said(result)).toContain(`is not empty: public.parent, a table of extension ${extension.name}, holds rows`);
    expect(await dumpOf(target)).toBe(before);
  });

  test('go again with all else of an archive whose load fails, and the next restore goes through', async (context) => {
    await using extension = await makeConfigExtension(context);
    await using broken = await filePlace();
    await using whole = await filePlace();
    await using source = await createDatabase({
      sql: `CREATE EXTENSION ${extension.name}; ${ROWS}; CREATE TABLE t AS SELECT generate_series(1, 10) AS a`,
    });
    await using target = await createDatabase({ name: 'ext', sql: `CREATE EXTENSION ${extension.name}` });
    const before = await linesOf(target);
    await makeStockArchive(source, broken.store, { falsify: oneRowMore });
    await makeStockArchive(source, whole.store);
    await expect(restoreInto(target, broken.store)).rejects.toMatchObject({ code: 'corrupt' });
    expect(await linesOf(target)).toEqual(before);
    expect(await target.query('SELECT * FROM parent')).toEqual(OWN_ROWS);
    await restoreInto(target, whole.store);
    expect(await linesOf(target)).toEqual(await linesOf(source));
  });

  test('that the role may not delete are told of, and nothing is changed; without any the extension is no matter', async (context) => {
    await using extension = await makeConfigExtension(context);
    await using role = await createRole();
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', owner: role, sql: 'CREATE TABLE t (a int)' });
    await using target = await createDatabase({ name: 'ext', owner: role, sql: 'CREATE TABLE old AS SELECT 1 AS a' });
    const admin = openDatabase(target.name);
    await admin.query(`CREATE EXTENSION ${extension.name}; GRANT SELECT ON parent, child TO PUBLIC; ${ROWS};
      CREATE CAST (varchar AS jsonb) WITH INOUT`);
    await makeBackup({ database: source, storage });
    const before = await dumpOf(admin);
    const args = ['restore', 'latest', '--to-db', target.name, '--clean'];
    const refused = await pgark({ database: source, storage }, args);
    expect(refused.exitCode).toBe(1);
    expect(said(refused)).toContain(
      `role ${escapeIdentifier(role.user)} may not delete the rows of public.parent, a table of extension ${extension.name}`,
    );
    expect(await dumpOf(admin)).toBe(before);
    await admin.query('DELETE FROM child; DELETE FROM parent WHERE id > 0');
    expect(await pgark({ database: source, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await target.query(`SELECT to_regclass('t') IS NOT NULL AS t, to_regclass('old') AS old`)).toEqual([
      { t: true, old: null },
    ]);
  });
});

/** Of the table of ten rows, which is loaded after those of the extension. */
function oneRowMore({ files, tables, ...rest }: ArchiveContents): ArchiveContents {
  return {
    ...rest,
    files: files.map((file) => (file.piece?.rows === 10 ? { ...file, piece: { ...file.piece, rows: 11 } } : file)),
    tables: tables.map((table) => (table.rows === 10 ? { ...table, rows: 11 } : table)),
  };
}
