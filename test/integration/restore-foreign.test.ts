import { access, readFile, writeFile } from 'node:fs/promises';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../support/cli.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { databaseNames, dumpOf, futureDatabase, pgark, said } from '../support/restoring.ts';
import { fileStorage, s3Storage } from '../support/storage.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

const SQL = `CREATE TABLE t AS SELECT i, md5(i::text) AS h FROM generate_series(1, 3000) i; SELECT lo_from_bytea(77, 'large');
  CREATE INDEX ON t (i); CREATE VIEW v AS SELECT 1 AS one`;
const PASSPHRASE = 'a passphrase of enough characters for openssl';

/** Writes dumps into the directory by stock tools alone. */
async function stockDumps(source: TestDatabase, directory: TempDirectory): Promise<void> {
  const identity = await generateX25519Identity();
  await writeFile(directory.join('key'), identity);
  await writeFile(directory.join('phrase'), PASSPHRASE);
  const script = `
    pg_dump > a.sql
    gzip -k a.sql
    (head -c 5000 a.sql | pigz; tail -c +5001 a.sql | gzip -1) > members.sql.gz
    zstd -q -k a.sql
    pg_dump -Fc > b.dump
    gzip -c b.dump > c.dump.gz
    age -r ${await identityToRecipient(identity)} -o a.sql.gz.age a.sql.gz
    openssl enc -aes-256-cbc -pbkdf2 -pass file:phrase -in a.sql.gz -out a.sql.gz.enc
    openssl enc -aes-256-cbc -pbkdf2 -pass file:phrase -in b.dump -out b.dump.enc
    (printf '\\357\\273\\277'; cat a.sql) > bom.sql
`;
  const made = await runProgram('sh', ['-euc', script], { env: source.env, cwd: directory.path });
  expect(made).toMatchObject({ exitCode: 0, stderr: '' });
}

const FILES = [
  'a.sql',
  'a.sql.gz',
  'members.sql.gz',
  'a.sql.zst',
  'b.dump',
  'c.dump.gz',
  'a.sql.gz.age',
  'a.sql.gz.enc',
  'b.dump.enc',
  'bom.sql',
];

async function read(directory: TempDirectory, file: string): Promise<Buffer> {
  return readFile(directory.join(file));
}

describe('dumps of other tools', { timeout: 300_000 }, () => {
  test.each([
    ['file', fileStorage],
    ['s3', s3Storage],
  ])('are listed as foreign and restored by name (%s)', async (kind, makeStorage) => {
    await using directory = await makeTempDirectory();
    await using storage = await makeStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    await stockDumps(source, directory);
    for (const file of FILES) await storage.put(`theirs/${file}`, await read(directory, file));
    await storage.put('notes.txt', 'no dump');
    const listed = await pgark({ database: source, storage }, ['list', '-o', 'json']);
    const { storages } = JSON.parse(listed.stdout) as { storages: { foreign: { key: string }[] }[] };
    expect(storages[0]?.foreign.map(({ key }) => key).sort()).toEqual(FILES.map((file) => `theirs/${file}`).sort());
    const table = await pgark({ database: source, storage }, ['list']);
    expect(table.stdout).toContain('theirs/b.dump');
    const expected = await dumpOf(source);
    const keys = ['--identity', directory.join('key'), '--passphrase-file', directory.join('phrase')];
    for (const file of kind === 'file' ? FILES : ['members.sql.gz', 'b.dump.enc', 'a.sql.gz.age']) {
      await using restored = futureDatabase();
      const args = ['restore', file, '--to-db', restored.name, '--no-analyze', ...keys];
      const result = await pgark({ database: source, storage }, args);
      expect({ file, exitCode: result.exitCode, stderr: result.stderr }).toMatchObject({ exitCode: 0 });
      expect(await dumpOf(restored)).toBe(expected);
    }
    // Nothing of theirs was changed, and they are no backups.
    for (const file of FILES)
      expect((await storage.get(`theirs/${file}`)).equals(await read(directory, file))).toBe(true);
    expect((await pgark({ storage }, ['show', 'a.sql'])).exitCode).toBe(10);
    expect((await pgark({ storage }, ['verify', 'a.sql'])).exitCode).toBe(10);
  });

  test('one that a newer pg_dump wrote loads into a server that lacks a setting of it', async () => {
    await using directory = await makeTempDirectory();
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    await stockDumps(source, directory);
    const sql = (await read(directory, 'a.sql')).toString();
    const newer = sql.replace(/^(?=SET client_encoding)/m, 'SET transaction_timeout = 0;\n');
    expect(newer).not.toBe(sql);
    await storage.put('newer.sql', newer);
    await using restored = futureDatabase();
    const args = ['restore', 'newer.sql', '--to-db', restored.name, '--no-analyze'];
    expect(await pgark({ database: source, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(restored)).toBe(await dumpOf(source));
  });

  test('an archive fills an empty database in one transaction, and is not for --clean', async () => {
    await using directory = await makeTempDirectory();
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    await using target = await createDatabase({ name: 'there', createOptions: 'TEMPLATE template0' });
    await stockDumps(source, directory);
    await storage.put('b.dump', await read(directory, 'b.dump'));
    const args = ['restore', 'b.dump', '--to-db', target.name];
    expect(await pgark({ database: source, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(target)).toBe(await dumpOf(source));
    const clean = await pgark({ database: source, storage }, [...args, '--clean']);
    expect(clean.exitCode).toBe(1);
    expect(said(clean)).toContain('is an archive of pg_dump');
    const plan = await pgark({ database: source, storage }, [...args, '--clean', '--plan']);
    expect(plan.exitCode).toBe(1);
    expect(said(plan)).toContain('is an archive of pg_dump');
    expect(await dumpOf(target)).toBe(await dumpOf(source));
  });

  test('truncated or no dumps at all, they are refused and no target is made', async () => {
    await using directory = await makeTempDirectory();
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const restored = futureDatabase('never');
    await stockDumps(source, directory);
    const sql = (await read(directory, 'a.sql')).toString();
    const gz = await read(directory, 'a.sql.gz');
    const archive = await read(directory, 'b.dump');
    const bad: Readonly<Record<string, [body: string | Buffer, exitCode: number, words: string]>> = {
      'cut.sql.gz': [gz.subarray(0, gz.length - 30), 20, ''],
      'rows.sql': [sql.slice(0, sql.indexOf('\n100\t')), 20, 'the rows of a table'],
      'statement.sql': [sql.slice(0, sql.indexOf('CREATE TABLE') + 30), 20, 'a statement'],
      'between.sql': [sql.slice(0, sql.indexOf('CREATE INDEX')), 20, 'closing line'],
      'cut.dump': [archive.subarray(0, archive.length - 2000), 1, 'pg_restore'],
      'garbage.dump': [Buffer.from([0, 1, 2, 3, 255, 0]), 1, 'neither SQL text nor'],
      'empty.sql': ['', 1, 'neither SQL text nor'],
      'utf16.sql': [Buffer.from(`\ufeff${sql}`, 'utf16le'), 1, 'neither SQL text nor'],
      'prose.sql': ['Dear all, this is no dump;\n', 1, 'syntax error'],
    };
    for (const [file, [body, exitCode, words]] of Object.entries(bad)) {
      await storage.put(file, body);
      for (const how of exitCode === 20 ? ['--verify-first', '--no-verify-first'] : ['--verify-first']) {
        const result = await pgark({ database: source, storage }, ['restore', file, how, '--to-db', restored.name]);
        expect({ file, exitCode: result.exitCode, stderr: result.stderr }).toMatchObject({ file, exitCode });
        expect(said(result)).toContain(words);
      }
    }
    expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
  });
});

describe('a dump that is not to be trusted', { timeout: 300_000 }, () => {
  const HEAD = '--\n-- Some dump\n--\n\n';
  test.each([
    ['a shell command', '\\! touch FILE\n'],
    ['a copy to a program', `\\copy (SELECT 1) TO PROGRAM 'touch FILE'\n`],
    ['output to a file', '\\o FILE\nSELECT 1;\n'],
    ['an included file', '\\i FILE\n'],
    ['a variable from a program', '\\set x `touch FILE`\n'],
    ['a way out of the restriction', '\\unrestrict x\n\\! touch FILE\n'],
    ['a pair in the middle', '\\restrict x\nSELECT 1;\n\\unrestrict x\n\\! touch FILE\n'],
    ['a command behind a statement', 'SELECT 1 \\g FILE\n'],
    ['a command behind large objects', 'BEGIN;\nSELECT 1;\nCOMMIT;\n\\! touch FILE\n'],
    ['another connection', '\\connect postgres\n\\! touch FILE\n'],
  ])('cannot run %s', async (_what, command) => {
    await using directory = await makeTempDirectory();
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src' });
    await using target = await createDatabase({ name: 'there' });
    const never = futureDatabase('never').name;
    const file = directory.join('ran');
    await storage.put('bad.sql', `${HEAD}CREATE TABLE t (a int);\n${command.replaceAll('FILE', file)}SELECT 1;\n`);
    for (const name of [never, target.name]) {
      const result = await pgark({ database: source, storage }, ['restore', 'bad.sql', '--to-db', name]);
      expect(result.exitCode).toBe(1);
      expect(said(result)).toMatch(/backslash commands are restricted|\\unrestrict: wrong key/);
      expect(said(result)).toContain('look at it before you trust it');
    }
    await expect(access(file)).rejects.toThrow('ENOENT');
    expect(await databaseNames(never)).toEqual([]);
    expect(await target.query('SELECT 1 FROM pg_class WHERE relname = $1', ['t'])).toEqual([]);
  });

  test('is restored with the pair of \\restrict lines that its own pg_dump wrote', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    await using restored = futureDatabase();
    const dump = await runProgram('pg_dump', [], { env: source.env });
    expect(dump.stdout).toMatch(/^\\restrict \w+$/m);
    await storage.put('own.sql', dump.stdout);
    const result = await pgark({ database: source, storage }, ['restore', 'own.sql', '--to-db', restored.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(restored)).toBe(await dumpOf(source));
  });

  test('stops at the first error with psql’s words and line, and keeps nothing', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src' });
    await using target = await createDatabase({ name: 'there' });
    const never = futureDatabase('never').name;
    await storage.put(
      'bad.sql',
      `${HEAD}CREATE TABLE t (a int);\nINSERT INTO t VALUES ('x');\nCREATE TABLE u (a int);\n`,
    );
    for (const name of [never, target.name]) {
      const result = await pgark({ database: source, storage }, ['restore', 'bad.sql', '--to-db', name]);
      expect(result.exitCode).toBe(1);
      expect(said(result)).toMatch(/ line 6: ERROR: invalid input syntax for type integer: …/);
    }
    expect(await databaseNames(never)).toEqual([]);
    expect(await target.query(`SELECT 1 FROM pg_class WHERE relname IN ('t', 'u')`)).toEqual([]);
  });

  test('that names a role which is not there says which', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src' });
    await storage.put('bad.sql', 'CREATE TABLE t (a int);\nALTER TABLE t OWNER TO "no such role";\n');
    const never = futureDatabase('never').name;
    const result = await pgark({ database: source, storage }, ['restore', 'bad.sql', '--to-db', never]);
    expect(result.exitCode).toBe(1);
    expect(said(result)).toContain('role "no such role" does not exist');
    expect(said(result)).toContain('CREATE ROLE "no such role"');
  });
});
