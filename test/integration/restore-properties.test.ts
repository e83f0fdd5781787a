import { randomBytes } from 'node:crypto';
import { Client, escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import { startThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { connected, databaseNames, makeBackup, pgark, said } from '../support/restoring.ts';
import { createDatabase, createRole, openDatabase, runAsSuperuser, type TestDatabase } from '../support/postgres.ts';
import { fileStorage } from '../support/storage.ts';

const SMALL = 'CREATE TABLE t AS SELECT generate_series(1, 100) AS a';

const FACTS = `
  SELECT pg_get_userbyid(datdba) AS owner, datconnlimit, datistemplate, shobj_description(d.oid, 'pg_database') AS comment,
         (SELECT spcname FROM pg_tablespace t WHERE t.oid = dattablespace) AS tablespace,
         (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a) AS acl,
         (SELECT array_agg(setrole::text || s.setting ORDER BY setrole::text || s.setting)
            FROM pg_db_role_setting, unnest(setconfig) s (setting) WHERE setdatabase = d.oid) AS settings
    FROM pg_database d WHERE datname = $1`;

function factsOf({ name }: { readonly name: string }): Promise<Record<string, unknown>[]> {
  return runAsSuperuser(FACTS, [name]);
}

function uniqueName(): string {
  return `p${randomBytes(8).toString('hex')}`;
}

/** A tablespace in the server's own directory. */
async function createTablespace(): Promise<{ readonly name: string } & AsyncDisposable> {
  const name = `ts_${randomBytes(5).toString('hex')}`;
  await connected(openDatabase('postgres'), async (client) => {
    await client.query('SET allow_in_place_tablespaces = on');
    await client.query(`CREATE TABLESPACE ${name} LOCATION ''`);
  });
  return {
    name,
    [Symbol.asyncDispose]: async () => {
      await runAsSuperuser(`DROP TABLESPACE IF EXISTS ${name}`);
    },
  };
}

async function adorn(database: TestDatabase, reader: string): Promise<void> {
  const [name, role] = [database.name, reader].map(escapeIdentifier);
  await runAsSuperuser(`
    REVOKE ALL ON DATABASE ${name} FROM PUBLIC;
    GRANT CONNECT ON DATABASE ${name} TO ${role} WITH GRANT OPTION;
    GRANT TEMPORARY ON DATABASE ${name} TO PUBLIC;
    ALTER DATABASE ${name} CONNECTION LIMIT 17;
    COMMENT ON DATABASE ${name} IS 'it''s \\ mine';
    ALTER DATABASE ${name} SET search_path TO "we,ird ""one", public;
    ALTER DATABASE ${name} SET default_transaction_read_only TO on;
    ALTER ROLE ${role} IN DATABASE ${name} SET work_mem TO '7MB'`);
}

describe('a database that is made anew', { timeout: 300_000 }, () => {
  test('gets settings, rights, comment, limit, template flag and tablespace of the one that was lost', async () => {
    await using tablespace = await createTablespace();
    await using reader = await createRole();
    await using storage = await fileStorage();
    const createOptions = `TEMPLATE template0 TABLESPACE ${tablespace.name}`;
    await using database = await createDatabase({ name: uniqueName(), createOptions, sql: SMALL });
    await adorn(database, reader.user);
    const name = escapeIdentifier(database.name);
    await runAsSuperuser(`ALTER DATABASE ${name} IS_TEMPLATE true`);
    const before = await factsOf(database);
    await makeBackup({ database, storage });
    await runAsSuperuser(`ALTER DATABASE ${name} IS_TEMPLATE false`);
    await database.drop();
    const result = await pgark({ database, storage }, ['restore', 'latest', '--to-db', database.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(result.stderr).not.toMatch(/warn/i);
    expect(await factsOf(database)).toEqual(before);
    expect(await database.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 100 }]);
    await runAsSuperuser(`ALTER DATABASE ${name} IS_TEMPLATE false`);
  });

  test('is restored without what names a role or a tablespace that is missing, with a warning each', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), sql: SMALL });
    {
      await using tablespace = await createTablespace();
      await using reader = await createRole();
      await adorn(database, reader.user);
      await runAsSuperuser(`ALTER DATABASE ${escapeIdentifier(database.name)} SET TABLESPACE ${tablespace.name}`);
      await makeBackup({ database, storage });
      await database.drop();
    }
    const result = await pgark({ database, storage }, ['restore', 'latest', '--to-db', database.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(said(result)).toMatch(/made in the default tablespace: the server has no tablespace "ts_/);
    expect(said(result)).toMatch(/does not have the right CONNECT of "role .* does not exist/);
    expect(said(result)).toMatch(/does not have the setting work_mem of role "role .* does not exist/);
    expect(await factsOf(database)).toMatchObject([{ datconnlimit: 17, tablespace: 'pg_default' }]);
  });

  test('is open to its users also if a setting names a library that the server does not have', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), sql: SMALL });
    const backup = await makeBackup({ database, storage });
    await database.drop();
    const manifest = JSON.parse((await storage.get(backup.manifestKey)).toString()) as {
      database: { properties: { settings: unknown[] } };
    };
    manifest.database.properties.settings = [{ name: 'session_preload_libraries', value: 'no_such_library' }];
    await storage.put(backup.manifestKey, Buffer.from(JSON.stringify(manifest)));
    const result = await pgark({ database, storage }, ['restore', 'latest', '--to-db', database.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(said(result)).toContain('does not have the settings of the original');
    expect(await database.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 100 }]);
  });

  test('from an encrypted backup has rights, and neither settings nor comment, which the manifest does not show', async () => {
    await using reader = await createRole();
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), sql: SMALL });
    await adorn(database, reader.user);
    const env = { BACKUP_ENCRYPTION: 'openssl', BACKUP_ENCRYPTION_KEY: 'a long enough passphrase of enough words' };
    const backup = await makeBackup({ database, storage, env });
    const text = (await storage.get(backup.manifestKey)).toString();
    expect(text).toContain('"encryption"');
    expect(text).not.toMatch(/ mine|we,ird|work_mem/);
    const before = await factsOf(database);
    await database.drop();
    const result = await pgark({ database, storage, env }, ['restore', 'latest', '--to-db', database.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(said(result)).toMatch(/does not have the settings and the comment of the original.* loading /);
    expect(await factsOf(database)).toEqual([{ ...before[0], settings: null, comment: null }]);
  });
});

/** Whose content could not be loaded, or would be another, under the settings of the server, or under all of its own. */
async function createPeculiar(): Promise<TestDatabase> {
  const database = await createDatabase({ name: uniqueName() });
  const name = escapeIdentifier(database.name);
  await runAsSuperuser(`
    ALTER DATABASE ${name} SET timezone TO 'Asia/Kathmandu';
    ALTER DATABASE ${name} SET default_text_search_config TO 'pg_catalog.german';
    ALTER DATABASE ${name} SET app.tenant TO 'acme'`);
  await database.query(`
    CREATE TABLE days (starts timestamptz CHECK (date_trunc('day', starts) = starts), list text[]);
    INSERT INTO days VALUES ('2024-03-05', ARRAY['a', NULL]);
    CREATE MATERIALIZED VIEW per_day AS
      SELECT date_trunc('day', starts + '1 hour'::interval) AS day, current_setting('app.tenant') AS tenant,
             to_tsvector('Die Katzen')::text AS words FROM days`);
  await runAsSuperuser(`
    ALTER DATABASE ${name} SET array_nulls TO off;
    ALTER DATABASE ${name} SET statement_timeout TO '1min';
    ALTER DATABASE ${name} SET temp_file_limit TO 0;
    ALTER DATABASE ${name} SET default_transaction_read_only TO on`);
  return database;
}

const PECULIAR = 'SELECT per_day.*, starts, list[2] IS NULL AS nothing FROM per_day, days';

describe('a database is loaded under its own settings', { timeout: 300_000 }, () => {
  test.each([
    ['plain', false],
    ['plain', true],
    ['directory', false],
    ['directory', true],
  ])('and not under those that spoil a load: format %s, in place %s', async (format, replaces) => {
    await using storage = await fileStorage();
    await using database = await createPeculiar();
    const [facts, rows] = [await factsOf(database), await database.query(PECULIAR)];
    await makeBackup({ database, storage, env: { BACKUP_FORMAT: format } });
    if (!replaces) await database.drop();
    const into = replaces ? ['--in-place', '--yes', database.name, '--drop-old'] : ['--to-db', database.name];
    const result = await pgark({ database, storage }, ['restore', 'latest', ...into]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(result.stderr).not.toMatch(/warn/i);
    expect(await database.query(PECULIAR)).toEqual(rows);
    expect(rows).toMatchObject([{ tenant: 'acme', words: "'katz':2", nothing: true }]);
    expect(await factsOf(database)).toEqual(facts);
  });
});

describe('in place', { timeout: 300_000 }, () => {
  test('tablespace and template flag are kept, and a template that was replaced can be dropped', async () => {
    await using tablespace = await createTablespace();
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), sql: SMALL });
    await makeBackup({ database, storage });
    const name = escapeIdentifier(database.name);
    await runAsSuperuser(`ALTER DATABASE ${name} SET TABLESPACE ${tablespace.name}`);
    await runAsSuperuser(`ALTER DATABASE ${name} IS_TEMPLATE true`);
    const args = ['restore', 'latest', '--in-place', '--yes', database.name, '--drop-old'];
    const result = await pgark({ database, storage }, args);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await factsOf(database)).toMatchObject([{ datistemplate: true, tablespace: tablespace.name }]);
    expect(await databaseNames(database.name)).toEqual([database.name]);
    await runAsSuperuser(`ALTER DATABASE ${name} IS_TEMPLATE false`);
  });

  test('a database that takes no connections is replaced, and stays closed with a warning that says so', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), sql: SMALL });
    await makeBackup({ database, storage });
    await database.query('TRUNCATE t');
    const name = escapeIdentifier(database.name);
    await runAsSuperuser(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
    const within = await pgark({ database, storage }, ['restore', 'latest', '--to-db', database.name]);
    expect(within.exitCode).toBe(1);
    expect(said(within)).toContain(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true opens it`);
    const args = ['restore', 'latest', '--in-place', '--yes', database.name, '--drop-old'];
    const result = await pgark({ database, storage }, args);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(said(result)).toContain(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true opens it`);
    await runAsSuperuser(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
    expect(await database.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 100 }]);
  });

  test('a prepared transaction in the old database is named before anything is loaded', async () => {
    await using server = await startThrowawayServer({ listen: 'tcp', settings: { max_prepared_transactions: '5' } });
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: uniqueName(), sql: SMALL });
    await makeBackup({ database: source, storage });
    const env = { DATABASE_URL: server.url(source.name).reveal(), BACKUP_NAME: source.name };
    const run = (...args: string[]) => pgark({ storage, env }, ['restore', 'latest', ...args]);
    expect(await run('--to-db', source.name)).toMatchObject({ exitCode: 0 });
    const client = new Client({ connectionString: env.DATABASE_URL });
    await client.connect();
    await client.query('BEGIN');
    await client.query('DELETE FROM t');
    await client.query(`PREPARE TRANSACTION 'left''over'`);
    const inPlace = ['--in-place', '--from-other-server', '--yes', source.name];
    const refused = await run(...inPlace);
    expect(refused.exitCode).toBe(1);
    expect(said(refused)).toContain(
      `"${source.name}" cannot be replaced while it has prepared transactions: 'left''over' of role postgres`,
    );
    expect(said(refused)).toContain('ROLLBACK PREPARED');
    const names = await client.query('SELECT FROM pg_database WHERE strpos(datname, $1) > 0', [source.name]);
    expect(names.rows).toHaveLength(1);
    await client.query(`ROLLBACK PREPARED 'left''over'`);
    await client.end();
    expect(await run(...inPlace)).toMatchObject({ exitCode: 0 });
  });
});
