import { cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readable } from '../../src/postgres/toc/byte-string.ts';
import { readCopyStatement } from '../../src/postgres/toc/copy-statement.ts';
import { readToc, readTocOf } from '../../src/postgres/toc/read-toc.ts';
import { splitTables } from '../../src/postgres/toc/split-tables.ts';
import { tableDataFile, toDirectory } from '../../src/postgres/toc/to-directory.ts';
import { type CustomToc, type DirectoryToc, TABLE_DATA, TABLE_DATA_END } from '../../src/postgres/toc/toc.ts';
import { writeToc } from '../../src/postgres/toc/write-toc.ts';
import { type RunResult, runProgram } from '../support/cli.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { dumpOf } from '../support/restoring.ts';
import { RICH_SQL } from '../support/rich-database.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

/** Enough rows that pieces are loaded at the same time, and what has to wait for all of them. */
const PIECEWISE_SQL = `
  SET search_path = public;
  CREATE TABLE many (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, half int GENERATED ALWAYS AS (id / 2) STORED, t text UNIQUE);
  INSERT INTO many (t) SELECT repeat('x', 200) || i FROM generate_series(1, 20000) i;
  CREATE TABLE referring (id int PRIMARY KEY REFERENCES many, many_id int REFERENCES many);
  INSERT INTO referring SELECT i, 20001 - i FROM generate_series(1, 20000) i;
  CREATE TABLE triggered (id int);
  CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the trigger ran during the restore'; END $$;
  INSERT INTO triggered SELECT generate_series(1, 2000);
  CREATE TRIGGER refusing BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION refuse();
  CREATE MATERIALIZED VIEW many_counted AS SELECT count(*) AS c FROM many;
  -- Every comparison takes them along.
  UPDATE huge SET t = left(t, 10000), b = NULL;
`;

let place: TempDirectory;
let source: TestDatabase;
let sourceDump: readonly string[];
beforeAll(async () => {
  place = await makeTempDirectory();
  source = await createDatabase({ name: 'src', createOptions: 'TEMPLATE template0', sql: RICH_SQL + PIECEWISE_SQL });
  sourceDump = sorted(await dumpOf(source));
  await stock('pg_dump', ['--format=custom', '--compress=0', '--file', place.join('custom.dump')]);
  await stock('pg_dump', ['--format=directory', '--compress=0', '--file', place.join('stock')]);
});
afterAll(async () => {
  await source?.drop();
  await place?.[Symbol.asyncDispose]();
});

/** A program that has to succeed, in silence. */
async function stock(program: string, args: readonly string[], database = source): Promise<RunResult> {
  const result = await runProgram(program, args, { env: database.env });
  // psql passes on what the server says of publications where the level of its WAL is low.
  const stderr = result.stderr.replaceAll(/^(WARNING|HINT): .*wal_level.*\n/gm, '');
  expect({ args, ...result, stderr }).toMatchObject({ exitCode: 0, stderr: '' });
  return result;
}

async function customToc(): Promise<{ toc: CustomToc; bytes: number }> {
  const { toc, bytes } = await readTocOf(createReadStream(place.join('custom.dump')));
  if (toc.format !== 'custom') throw new Error('not in custom format');
  return { toc, bytes };
}

async function stockDirectoryToc(): Promise<DirectoryToc> {
  const { toc } = readToc(await readFile(place.join('stock', 'toc.dat')));
  if (toc.format !== 'directory') throw new Error('not in directory format');
  return toc;
}

/** The contents that pg_restore lists, without comments: when it was made, in which format. */
async function listed(archive: string): Promise<string[]> {
  const { stdout } = await stock('pg_restore', ['--list', archive]);
  return stdout.split('\n').filter((line) => line !== '' && !line.startsWith(';'));
}

describe('the table of contents that this pg_dump writes', () => {
  test('comes out of a round trip byte for byte, in both formats', async () => {
    const custom = await readFile(place.join('custom.dump'));
    const { toc, bytes } = await customToc();
    expect(toc.entries.length).toBeGreaterThan(100);
    expect(Buffer.from(writeToc(toc)).equals(custom.subarray(0, bytes))).toBe(true);
    const directory = await readFile(place.join('stock', 'toc.dat'));
    expect(Buffer.from(writeToc(await stockDirectoryToc())).equals(directory)).toBe(true);
  });

  test('is an archive without data by itself', async () => {
    const { toc } = await customToc();
    await writeFile(place.join('head.dump'), writeToc(toc));
    expect(await listed(place.join('head.dump'))).toEqual(await listed(place.join('custom.dump')));
    for (const section of ['pre-data', 'post-data']) {
      const [fromHead, fromAll] = await Promise.all(
        ['head.dump', 'custom.dump'].map((name) =>
          stock('pg_restore', [`--section=${section}`, '--file=-', place.join(name)]),
        ),
      );
      expect(withoutKey(fromHead?.stdout)).toBe(withoutKey(fromAll?.stdout));
      expect(fromHead?.stdout).toContain(section === 'pre-data' ? 'CREATE TABLE' : 'CREATE INDEX');
    }
  });

  test('keeps names in any encoding', async () => {
    await using latin = await createDatabase({
      name: 'latin',
      createOptions: `TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`,
      sql: `CREATE TABLE "Größe" ("Maß" int)`,
    });
    await stock('pg_dump', ['--format=custom', '--file', place.join('latin.dump')], latin);
    const bytes = await readFile(place.join('latin.dump'));
    const { toc, bytes: tocBytes } = readToc(bytes);
    expect(Buffer.from(writeToc(toc)).equals(bytes.subarray(0, tocBytes))).toBe(true);
    expect(toc.entries.map((entry) => entry.tag)).toContain('Gr\u00f6\u00dfe');
  });

  test('has COPY statements of the one known form', async () => {
    const { toc } = await customToc();
    const data = toc.entries.filter((entry) => entry.description === TABLE_DATA);
    const columns = new Map(data.map((entry) => [readable(entry.tag), readCopyStatement(entry).columns]));
    expect(columns.get('many')).toBe('id, t');
    expect(columns.get('nothing')).toBe('');
    expect(columns.size).toBeGreaterThan(10);
  });
});

/** What pg_restore sets against commands in dumps is random. */
function withoutKey(sql: string | undefined): string | undefined {
  return sql?.replaceAll(/^\\(un)?restrict .*$/gm, '');
}

test('a custom archive becomes a directory that pg_restore lists and restores alike', async () => {
  const directory = place.join('made');
  await cp(place.join('stock'), directory, { recursive: true });
  const { toc } = await customToc();
  const made = toDirectory(toc, 'none');
  await writeFile(path.join(directory, 'toc.dat'), writeToc(made));
  expect(made).toEqual({ ...(await stockDirectoryToc()), createdAt: toc.createdAt });
  expect(await listed(directory)).toEqual(await listed(place.join('custom.dump')));
  await using restored = await createDatabase({ name: 'restored', createOptions: 'TEMPLATE template0' });
  await stock('pg_restore', ['--exit-on-error', '--jobs=2', `--dbname=${restored.name}`, directory], restored);
  expect(sorted(await dumpOf(restored))).toEqual(sourceDump);
});

describe('tables in pieces', { timeout: 300_000 }, () => {
  let directory = '';
  beforeAll(async () => {
    directory = place.join('pieces');
    await mkdir(directory);
    for (const file of await readdir(place.join('stock'))) {
      await cp(place.join('stock', file), path.join(directory, file));
    }
    const whole = toDirectory((await customToc()).toc, 'none');
    const rowsOf = new Map<number, readonly string[]>();
    for (const entry of whole.entries.filter((each) => each.description === TABLE_DATA)) {
      const rows = await readRows(path.join(directory, entry.file));
      if (rows.length > 1) rowsOf.set(entry.dumpId, rows);
    }
    const triggered = whole.entries.find((each) => each.description === TABLE_DATA && each.tag === 'triggered');
    const split = splitTables(
      whole,
      new Map(
        [...rowsOf].map(([dumpId, rows]) => [
          dumpId,
          { count: Math.min(PIECES_MAX, rows.length), isChained: dumpId === triggered?.dumpId },
        ]),
      ),
    );
    expect(split.pieces.size).toBeGreaterThan(5);
    for (const [dumpId, pieces] of split.pieces) {
      const rows = rowsOf.get(dumpId) ?? [];
      const start = (index: number): number => Math.floor((index * rows.length) / pieces.length);
      for (const [index, piece] of pieces.entries()) {
        await writeRows(path.join(directory, piece.file), rows.slice(start(index), start(index + 1)));
      }
      await writeRows(path.join(directory, tableDataFile(dumpId)), []);
    }
    await writeFile(path.join(directory, 'toc.dat'), writeToc(split.toc));
  });

  test.each([
    ['in one session', ['--exit-on-error']],
    ['with one job', ['--exit-on-error', '--jobs=1']],
    ['with four jobs', ['--exit-on-error', '--jobs=4']],
    ['in one transaction', ['--single-transaction']],
  ])('are restored whole by pg_restore %s', async (_how, args) => {
    await using restored = await createDatabase({ name: 'restored', createOptions: 'TEMPLATE template0' });
    await stock('pg_restore', [...args, `--dbname=${restored.name}`, directory], restored);
    expect(sorted(await dumpOf(restored))).toEqual(sourceDump);
  });

  test('are restored whole as SQL text by psql', async () => {
    await using restored = await createDatabase({ name: 'restored', createOptions: 'TEMPLATE template0' });
    const pipe = 'pg_restore --file=- "$1" | psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --output=/dev/null';
    await stock('sh', ['-c', pipe, 'sh', directory], restored);
    expect(sorted(await dumpOf(restored))).toEqual(sourceDump);
  });
});

/** Rows that were loaded side by side stand in another order. */
function sorted(dump: string): string[] {
  return dump.split('\n').sort();
}

const PIECES_MAX = 8;

async function readRows(file: string): Promise<string[]> {
  const text = await readFile(file, 'latin1');
  expect(text.endsWith(TABLE_DATA_END)).toBe(true);
  return text.slice(0, -TABLE_DATA_END.length).split('\n').slice(0, -1);
}

async function writeRows(file: string, rows: readonly string[]): Promise<void> {
  await writeFile(file, rows.map((row) => `${row}\n`).join('') + TABLE_DATA_END, 'latin1');
}
