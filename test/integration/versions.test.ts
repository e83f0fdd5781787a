import { chmod, writeFile } from 'node:fs/promises';
import { escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../support/cli.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase, createRole, openDatabase, runAsSuperuser, type TestDatabase } from '../support/postgres.ts';
import { connected, databaseNames, dumpOf, futureDatabase, makeBackup, pgark, said } from '../support/restoring.ts';
import { fileStorage } from '../support/storage.ts';
import { makeTempDirectory } from '../support/temp.ts';

const SMALL = 'CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100)';
const SUBSCRIPTION = `CREATE SUBSCRIPTION sub CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false, slot_name = 'held')`;

async function stockDump(database: TestDatabase, ...args: readonly string[]): Promise<Buffer> {
  await using directory = await makeTempDirectory();
  const file = directory.join('dump');
  const made = await runProgram('pg_dump', ['--no-password', `--file=${file}`, ...args], { env: database.env });
  expect(made).toMatchObject({ exitCode: 0 });
  const read = await runProgram('base64', [file]);
  return Buffer.from(read.stdout, 'base64');
}

/** Without it, a database with a subscription cannot be dropped. */
async function dropSubscriptions(...databases: readonly TestDatabase[]): Promise<void> {
  for (const database of databases) {
    const rows = await database.query<{ name: string }>(
      'SELECT subname AS name FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()',
    );
    for (const { name } of rows) {
      await database.query(`ALTER SUBSCRIPTION ${escapeIdentifier(name)} SET (slot_name = NONE)`);
      await database.query(`DROP SUBSCRIPTION ${escapeIdentifier(name)}`);
    }
  }
}

describe('client programs', () => {
  test('older than the server are refused before anything is done', async () => {
    await using directory = await makeTempDirectory();
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: SMALL });
    await writeFile(directory.join('pg_dump'), `#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.22'\n`);
    await chmod(directory.join('pg_dump'), 0o755);
    const place = { database: source, storage, env: { PGARK_CLIENT_DIR: directory.path } };
    const result = await pgark(place, ['backup']);
    expect(result.exitCode).toBe(1);
    expect(said(result)).toMatch(/the server is PostgreSQL \d+, and the newest pg_dump here is of version 12/);
    expect(said(result)).toMatch(/install postgresql-client-\d+ or newer .* PGARK_CLIENT_DIR/);
    expect((await storage.keys()).filter((key) => !key.startsWith('.pgark/'))).toEqual([]);
    const doctor = await pgark(place, ['doctor']);
    expect(doctor.exitCode).toBe(1);
    expect(doctor.stdout).toContain('psql is not installed');
  });
});

describe('a dump of a pg_dump out of step with its server', { timeout: 300_000 }, () => {
  const newerDump = (sql: string): string =>
    sql
      .replace(/^-- Dumped from database version .*$/m, '-- Dumped from database version 15.20')
      .replace(/^-- Dumped by pg_dump version .*$/m, '-- Dumped by pg_dump version 18.6')
      .replace(/^(ALTER TABLE public\.t OWNER)/m, 'ALTER TABLE ONLY public.t ALTER COLUMN a SET (pg_attver=77);\n\n$1')
      .replace(/(slot_name = 'held')/, '$1, streaming = off, run_as_owner = true');

  test('is made fit for the server that loads it', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: `${SMALL}; ${SUBSCRIPTION}` });
    await using restored = futureDatabase();
    const sql = (await stockDump(source)).toString();
    const newer = newerDump(sql);
    expect(newer).toContain('pg_attver');
    expect(newer).toContain('run_as_owner');
    await storage.put('newer.sql', newer);
    const result = await pgark({ database: source, storage }, ['restore', 'newer.sql', '--to-db', restored.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(restored)).toBe(await dumpOf(source));
    expect(said(result)).toContain('subscriptions are restored disabled: sub');
    await dropSubscriptions(source, restored);
  });

  test('is loaded as SQL text if it is an archive', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: `${SMALL}; SELECT lo_from_bytea(7, 'large')` });
    await using restored = futureDatabase();
    await using there = await createDatabase({ name: 'there', createOptions: 'TEMPLATE template0' });
    const archive = await stockDump(source, '--format=custom');
    // The header names the server's version, then pg_dump's: made one of an older minor release.
    const [server, writtenBy] = [archive.indexOf('15.'), archive.indexOf('15.', archive.indexOf('15.') + 3)];
    expect([server > 0, writtenBy > server, writtenBy < 300]).toEqual([true, true, true]);
    archive.write('15.0 ', writtenBy);
    await storage.put('older.dump', archive);
    for (const target of [restored, there]) {
      const result = await pgark({ database: source, storage, env: { LOG_LEVEL: 'debug' } }, [
        'restore',
        'older.dump',
        '--to-db',
        target.name,
      ]);
      expect(result).toMatchObject({ exitCode: 0 });
      expect(await dumpOf(target)).toBe(await dumpOf(source));
    }
    const never = futureDatabase('never').name;
    // Damage is pg_restore's to find, and nothing is kept.
    await storage.put('cut.dump', archive.subarray(0, archive.length - 500));
    const cut = await pgark({ database: source, storage }, ['restore', 'cut.dump', '--to-db', never]);
    expect(cut.exitCode).toBe(1);
    expect(said(cut)).toContain('pg_restore');
    expect(await databaseNames(never)).toEqual([]);
  });

  test('of a newer server is told by a warning, and a failure says where it would load', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SMALL });
    const sql = (await stockDump(source))
      .toString()
      .replace(/^-- Dumped from database version .*$/m, '-- Dumped from database version 99.1');
    await storage.put('fits.sql', sql);
    await storage.put('other.sql', sql.replace('CREATE TABLE public.t', 'CREATE NEWER TABLE public.t'));
    await using restored = futureDatabase();
    const fits = await pgark({ database: source, storage }, ['restore', 'fits.sql', '--to-db', restored.name]);
    expect(fits.exitCode).toBe(0);
    expect(said(fits)).toMatch(/fits.sql is of PostgreSQL 99, and the target is \d+/);
    const never = futureDatabase('never').name;
    const failed = await pgark({ database: source, storage }, ['restore', 'other.sql', '--to-db', never]);
    expect(failed.exitCode).toBe(1);
    expect(said(failed)).toMatch(/the dump is of PostgreSQL 99.*restore into 99 or newer/);
    expect(await databaseNames(never)).toEqual([]);
  });
});

describe('subscriptions', { timeout: 300_000 }, () => {
  test('do not keep a database from being dropped whose restore failed', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: `${SMALL}; ${SUBSCRIPTION}` });
    const sql = (await stockDump(source)).toString();
    const never = futureDatabase('never').name;
    await storage.put('bad.sql', sql.replace(/(^-- PostgreSQL database dump complete)/m, 'SELECT 1/0;\n$1'));
    const result = await pgark({ database: source, storage }, ['restore', 'bad.sql', '--to-db', never]);
    expect(result.exitCode).toBe(1);
    expect(said(result)).toContain('division by zero');
    expect(said(result)).not.toContain('could not be dropped');
    expect(await databaseNames(never)).toEqual([]);
    await dropSubscriptions(source);
  });

  test('of what a database holds are replaced with the rest by --clean', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({
      name: 'src',
      createOptions: 'TEMPLATE template0',
      sql: `${SMALL}; ${SUBSCRIPTION}`,
    });
    await makeBackup({ database, storage });
    const before = await dumpOf(database);
    await database.query('DELETE FROM t');
    const args = ['restore', 'latest', '--in-place', '--yes', database.name, '--clean'];
    const result = await pgark({ database, storage }, args);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(database)).toBe(before);
    await dropSubscriptions(database);
  });

  test('that pg_dump leaves out, since the role may not see them, are told of', async () => {
    await using role = await createRole();
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', owner: role });
    const asSuperuser = await createSubscription(source);
    const result = await pgark({ database: source, storage }, ['backup']);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(said(result)).toContain('WARNING subscriptions not dumped because current user is not a superuser');
    await dropSubscriptions(asSuperuser);
  });
});

/** Makes a subscription that is not the owner's, and gives the superuser's view of the database. */
async function createSubscription(database: TestDatabase): Promise<TestDatabase> {
  const opened = openDatabase(database.name);
  await opened.query(SUBSCRIPTION);
  return opened;
}

describe('in place', { timeout: 300_000 }, () => {
  test('a database keeps its locale provider, tablespace and mark as a template', async () => {
    await using storage = await fileStorage();
    const space = escapeIdentifier(`space ${Date.now().toString(36)}`);
    await connected(openDatabase('postgres'), async (client) => {
      await client.query('SET allow_in_place_tablespaces = on');
      await client.query(`CREATE TABLESPACE ${space} LOCATION ''`);
    });
    try {
      await using database = await createDatabase({
        name: 'made',
        createOptions: `TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' TABLESPACE ${space}`,
        sql: SMALL,
      });
      const name = escapeIdentifier(database.name);
      await runAsSuperuser(`ALTER DATABASE ${name} IS_TEMPLATE true`);
      const facts = `SELECT datlocprovider, daticulocale, datcollate, datctype, datistemplate, spcname
                       FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = $1`;
      const before = await runAsSuperuser(facts, [database.name]);
      expect(before).toMatchObject([{ datlocprovider: 'i', datistemplate: true }]);
      await makeBackup({ database, storage });
      const args = ['restore', 'latest', '--in-place', '--yes', database.name, '--drop-old'];
      expect(await pgark({ database, storage }, args)).toMatchObject({ exitCode: 0 });
      expect(await runAsSuperuser(facts, [database.name])).toEqual(before);
      expect((await databaseNames(database.name.slice(-10))).length).toBe(1);
      await runAsSuperuser(`ALTER DATABASE ${name} IS_TEMPLATE false`);
    } finally {
      await runAsSuperuser(`DROP TABLESPACE ${space}`);
    }
  });
});

describe('owners and grants', { timeout: 300_000 }, () => {
  test('of roles that are not there can be left out, of SQL text, of archives and of own backups', async () => {
    await using storage = await fileStorage();
    const gone = await createRole();
    const role = escapeIdentifier(gone.user);
    await using source = await createDatabase({
      name: 'src',
      sql: `${SMALL}; CREATE SCHEMA s; CREATE VIEW s.v AS SELECT 1 AS one; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
            SELECT lo_from_bytea(7, 'large')`,
    });
    const plain = await dumpOf(source);
    await source.query(`ALTER TABLE t OWNER TO ${role}; ALTER SCHEMA s OWNER TO ${role}; ALTER VIEW s.v OWNER TO ${role};
      ALTER FUNCTION f() OWNER TO ${role}; ALTER LARGE OBJECT 7 OWNER TO ${role}; GRANT SELECT ON t TO PUBLIC;
      ALTER DEFAULT PRIVILEGES FOR ROLE ${role} GRANT SELECT ON TABLES TO PUBLIC`);
    await runAsSuperuser(`ALTER DATABASE ${escapeIdentifier(source.name)} OWNER TO ${role}`);
    const backup = await makeBackup({ database: source, storage });
    await storage.put('theirs.sql', await stockDump(source));
    await storage.put('theirs.dump', await stockDump(source, '--format=custom'));
    const superuser = escapeIdentifier(postgresFacts().user);
    await runAsSuperuser(`ALTER DATABASE ${escapeIdentifier(source.name)} OWNER TO ${superuser}`);
    await source.query(`REASSIGN OWNED BY ${role} TO ${superuser}; DROP OWNED BY ${role}`);
    await gone.drop();
    for (const name of [backup.id, 'theirs.sql', 'theirs.dump']) {
      await using restored = futureDatabase();
      const args = ['restore', name, '--to-db', restored.name];
      const refused = await pgark({ database: source, storage }, args);
      expect(refused.exitCode).toBe(1);
      expect(said(refused)).toContain('--no-owner');
      const result = await pgark({ database: source, storage }, [...args, '--no-owner', '--no-privileges']);
      expect({ name, ...result }).toMatchObject({ exitCode: 0 });
      expect(await dumpOf(restored)).toBe(plain);
    }
  });
});
