import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../support/cli.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { databaseNames, dumpOf, futureDatabase, pgark, said } from '../support/restoring.ts';
import { fileStorage } from '../support/storage.ts';
import { makeTempDirectory } from '../support/temp.ts';

const SQL = `CREATE TABLE t AS SELECT i, md5(i::text) AS h FROM generate_series(1, 3000) i; SELECT lo_from_bytea(77, 'large');
  CREATE TABLE marker (version int); CREATE SCHEMA s; CREATE TABLE s.u (id serial PRIMARY KEY, t text); INSERT INTO s.u (t) VALUES ('x');
  CREATE INDEX ON t (i); CREATE VIEW v AS SELECT 1 AS one`;

type Form = 'custom' | 'tar' | 'plain';

/** A dump of the database as it is now, by stock tools, with a mark in it that tells it from others. */
async function dump(source: TestDatabase, version: number, form: Form, filter = 'cat'): Promise<Buffer> {
  await using directory = await makeTempDirectory();
  await source.query(`DELETE FROM marker; INSERT INTO marker VALUES (${version})`);
  const script = `pg_dump --format=${form} | ${filter} > dump`;
  expect(await runProgram('sh', ['-euc', script], { env: source.env, cwd: directory.path })).toMatchObject({
    exitCode: 0,
    stderr: '',
  });
  return await readFile(directory.join('dump'));
}

async function versionIn(database: TestDatabase): Promise<number | undefined> {
  const [row] = await database.query<{ version: number }>('SELECT version FROM marker');
  return row?.version;
}

describe('what the shell images have left in a storage', { timeout: 300_000 }, () => {
  test('is listed with the database and the time that its name tells', async () => {
    await using storage = await fileStorage();
    const foreign = {
      'backup/shop_2026-11-20T02:00:00.dump': ['shop', '2026-11-20T02:00:00.000Z'],
      'backup/shop_2026-11-21T02:00:00.dump.gpg': ['shop', '2026-11-21T02:00:00.000Z'],
      'last/crm-20261120-030000.sql.gz': ['crm', '2026-11-20T03:00:00.000Z'],
      'monthly/crm-202611.sql.gz': ['crm', undefined],
      'sub/backup-2026-11-20T05-00-00-123Z.tar.gz': [undefined, '2026-11-20T05:00:00.000Z'],
      '2026/November/PG_gis.20-November-2026-02-00.dmp': ['gis', '2026-11-20T02:00:00.000Z'],
    };
    for (const key of Object.keys(foreign)) await storage.put(key, 'x');
    await storage.put('backup-2026-11-20T02-00-00.tar.gz', 'files of a volume');
    const listed = await pgark({ storage }, ['list', '-o', 'json']);
    const { storages } = JSON.parse(listed.stdout) as {
      storages: { foreign: { key: string; database?: string; taken_at?: string }[] }[];
    };
    const found = (storages[0]?.foreign ?? []).map((each) => [each.key, [each.database, each.taken_at]]);
    expect(Object.fromEntries(found)).toEqual(foreign);
    const table = await pgark({ storage }, ['list']);
    expect(table.stdout).toMatch(/backup\/shop_2026-11-20T02:00:00\.dump +shop +2026-11-20T02:00:00Z/);
  });

  test.each([
    ['eeshugerman', 'backup/DB_2026-11-20T02:00:00.dump', 'custom', 'cat'],
    ['prodrigestivill', 'last/DB-20261120-020000.sql.gz', 'plain', 'gzip'],
    ['Railway’s template', 'sub/backup-2026-11-20T02-00-00-000Z.tar.gz', 'tar', 'gzip'],
    ['kartoza', '2026/November/PG_DB.20-November-2026-02-00.dmp', 'custom', 'cat'],
  ] as const)('by %s is restored: its newest dump of the database, and no other', async (_, name, form, filter) => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const key = (day: number): string =>
      name.replace('DB', source.name).replace(/20(?=T|-020000|-November)/, String(day));
    for (const day of [19, 21, 20]) await storage.put(key(day), await dump(source, day, form, filter));
    await storage.put('backup/other_2026-11-25T02:00:00.dump', await dump(source, 25, 'custom'));
    const restore = async (args: readonly string[], version: number): Promise<void> => {
      await using restored = futureDatabase();
      const all = ['restore', ...args, '--to-db', restored.name, '--no-analyze'];
      const result = await pgark({ database: source, storage }, all);
      expect({ stderr: result.stderr, exitCode: result.exitCode }).toMatchObject({ exitCode: 0 });
      expect(await versionIn(restored)).toBe(version);
      await source.query(`UPDATE marker SET version = ${version}`);
      expect(await dumpOf(restored)).toBe(await dumpOf(source));
    };
    await restore(['latest', '--foreign'], 21);
    await restore(['--at', '2026-11-20T12:00:00Z', '--foreign'], 20);
    await restore([key(19)], 19);
    // Without the word, latest means pgark's own.
    const own = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', 'never']);
    expect(own.exitCode).toBe(10);
  });

  test('is none of a run of pgark’s own, and one of several databases has to be named', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    expect(await pgark({ database: source, storage }, ['backup'])).toMatchObject({ exitCode: 0 });
    const args = ['restore', 'latest', '--foreign', '--to-db', 'never'];
    const none = await pgark({ database: source, storage }, args);
    expect(none.exitCode).toBe(10);
    expect(said(none)).toContain('no dump of another tool');
    for (const name of ['one', 'two']) await storage.put(`${name}_2026-11-20T02:00:00.dump`, 'x');
    const toUrl = ['restore', 'latest', '--foreign', '--to-url', source.url];
    const several = await pgark({ storage }, toUrl);
    expect(several.exitCode).toBe(2);
    expect(said(several)).toContain('dumps of 2 databases: ');
    const named = await pgark({ storage }, ['restore', 'two', 'latest', '--foreign', '--to-url', source.url, '--plan']);
    expect(said(named)).toMatch(/two_2026-11-20T02:00:00\.dump/);
  });

  test('that gpg has encrypted, or that is cut, is refused with the reason', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const tar = await dump(source, 1, 'tar');
    await storage.put(`${source.name}_2026-11-20T02:00:00.dump.gpg`, Buffer.from([0x8c, 13, 4, 9, 3, 2, 0, 1, 0]));
    await storage.put('cut-2026-11-20T02-00-00-000Z.tar', tar.subarray(0, tar.length / 2));
    const restored = futureDatabase('never');
    const gpg = await pgark({ database: source, storage }, [
      'restore',
      'latest',
      '--foreign',
      '--to-db',
      restored.name,
    ]);
    expect(gpg.exitCode).toBe(1);
    expect(said(gpg)).toContain('gpg --decrypt');
    const name = 'cut-2026-11-20T02-00-00-000Z.tar';
    const cut = await pgark({ database: source, storage }, ['restore', name, '--to-db', restored.name]);
    expect(cut.exitCode).toBe(20);
    expect(said(cut)).toContain(`${name} is truncated`);
    expect(await databaseNames(restored.name)).toEqual([]);
  });
});
