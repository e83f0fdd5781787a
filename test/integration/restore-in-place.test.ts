import { setTimeout as delay } from 'node:timers/promises';
import { escapeIdentifier } from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { createDatabase, createRole, openDatabase, runAsSuperuser } from '../support/postgres.ts';
import { databaseNames, dumpOf, keptOf, makeBackup, pgark, said, uniqueName } from '../support/restoring.ts';
import { fileStorage } from '../support/storage.ts';

const SMALL = 'CREATE TABLE t AS SELECT generate_series(1, 100) AS a';

describe('in place', { timeout: 300_000 }, () => {
  test.each([
    ['without --yes', []],
    ['with another name', ['--yes', 'other']],
  ])('%s nothing happens', async (_how, yes) => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: `${uniqueName()} Ü"'`, sql: SMALL });
    await makeBackup({ database, storage });
    const result = await pgark({ database, storage }, ['restore', 'latest', '--in-place', ...yes]);
    expect(result.exitCode).toBe(2);
    expect(said(result)).toContain(database.name);
    expect(said(result)).toContain('--in-place --yes');
    expect((await keptOf(database)).exists).toBe(false);
  });

  test('keeps owner, grants, settings, limit and comment of the database, and keeps the old one', async () => {
    await using owner = await createRole();
    await using reader = await createRole();
    await using storage = await fileStorage();
    await using database = await createDatabase({
      name: uniqueName(),
      createOptions: 'TEMPLATE template0',
      sql: SMALL,
    });
    const [name, reading, owning] = [database.name, reader.user, owner.user].map(escapeIdentifier);
    await runAsSuperuser(`
      ALTER DATABASE ${name} OWNER TO ${owning};
      REVOKE ALL ON DATABASE ${name} FROM PUBLIC;
      REVOKE TEMPORARY ON DATABASE ${name} FROM ${owning};
      GRANT CONNECT ON DATABASE ${name} TO ${reading} WITH GRANT OPTION;
      GRANT CREATE ON DATABASE ${name} TO ${reading};
      ALTER DATABASE ${name} CONNECTION LIMIT 17;
      COMMENT ON DATABASE ${name} IS 'it''s \\ mine; "yes"';
      ALTER DATABASE ${name} SET search_path TO "we,ird ""one", "$user", '', public, "select";
      ALTER DATABASE ${name} SET "my.app" TO 'quote '' and \\ back';
      ALTER DATABASE ${name} SET datestyle TO 'SQL, DMY';
      ALTER DATABASE ${name} SET work_mem TO '8MB';
      ALTER ROLE ${reading} IN DATABASE ${name} SET search_path TO '';
      ALTER ROLE ${reading} IN DATABASE ${name} SET statement_timeout TO '7s'`);
    const facts = `
      SELECT pg_get_userbyid(datdba) AS owner, datconnlimit, shobj_description(d.oid, 'pg_database') AS comment, datcollate, encoding,
             (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a) AS acl,
             (SELECT array_agg(setrole::text || s.setting ORDER BY setrole::text || s.setting) FROM pg_db_role_setting, unnest(setconfig) s (setting) WHERE setdatabase = d.oid) AS settings
        FROM pg_database d WHERE datname = $1`;
    const before = await runAsSuperuser(facts, [database.name]);
    expect(JSON.stringify(before)).toContain('we,ird');
    await makeBackup({ database, storage });
    await database.query('INSERT INTO t VALUES (101)');
    const result = await pgark({ database, storage }, ['restore', 'latest', '--in-place', '--yes', database.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await runAsSuperuser(facts, [database.name])).toEqual(before);
    await using kept = await keptOf(database);
    expect(result.stdout).toContain(`the old database is kept as ${kept.name}`);
    expect(await kept.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 101 }]);
    expect(await database.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 100 }]);
  });

  test('--drop-old drops the old one', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), sql: SMALL });
    await makeBackup({ database, storage });
    const args = ['restore', 'latest', '--in-place', '--yes', database.name, '--drop-old'];
    const result = await pgark({ database, storage }, args);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(result.stdout).not.toContain('kept as');
    expect(await databaseNames(database.name.slice(0, 10))).toEqual([database.name]);
  });

  test('applications that connect again and again do not stop it, and find the restored one', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), sql: SMALL });
    await makeBackup({ database, storage });
    await database.query('TRUNCATE t');
    const stop = new AbortController();
    let connects = 0;
    const application = async () => {
      while (!stop.signal.aborted) {
        try {
          const client = await database.connect();
          connects++;
          // Until somebody ends the session.
          for (let turn = 0; turn < 20 && !stop.signal.aborted; turn++) await client.query('SELECT pg_sleep(0.01)');
          await client.end().catch(() => {});
        } catch {
          await delay(1);
        }
      }
    };
    const applications = Array.from({ length: 6 }, application);
    await vi.waitUntil(() => connects > 12, { timeout: 240_000 });
    const result = await pgark({ database, storage }, [
      'restore',
      'latest',
      '--in-place',
      '--yes',
      database.name,
      '--drop-old',
    ]);
    stop.abort();
    await Promise.all(applications);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await database.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 100 }]);
  });

  test('makes a database that was dropped', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), sql: SMALL });
    await makeBackup({ database, storage });
    const before = await dumpOf(database);
    await database.drop();
    const args = ['restore', 'latest', '--in-place', '--yes', database.name];
    expect(await pgark({ database, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(database)).toBe(before);
  });

  test('a name of 63 bytes keeps its room', async () => {
    await using storage = await fileStorage();
    // createDatabase appends a blank and ten letters.
    await using database = await createDatabase({ name: `${uniqueName()}${'Ü'.repeat(17)}x`, sql: SMALL });
    expect(Buffer.byteLength(database.name)).toBe(63);
    await makeBackup({ database, storage });
    const result = await pgark({ database, storage }, ['restore', 'latest', '--in-place', '--yes', database.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    await using kept = await keptOf(database);
    expect(kept.exists).toBe(true);
    expect(Buffer.byteLength(kept.name)).toBeLessThanOrEqual(63);
    expect(await database.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 100 }]);
  });

  test('a role that does not own the database is told before anything is loaded', async () => {
    await using role = await createRole('CREATEDB');
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), sql: SMALL });
    await makeBackup({ database, storage });
    await database.query('CREATE TABLE kept (a int)');
    const before = await dumpOf(database);
    const stranger = openDatabase(database.name, role);
    const args = ['restore', 'latest', '--in-place', '--yes', database.name];
    const result = await pgark({ database: stranger, storage }, args);
    expect(result.exitCode).toBe(1);
    expect(said(result)).toContain(`role ${role.user} may not rename database "${database.name}"`);
    expect(await dumpOf(database)).toBe(before);
    expect(await databaseNames(database.name.slice(0, 10))).toEqual([database.name]);
  });

  test('settings that the role may not give are told before anything is loaded', async () => {
    await using role = await createRole('CREATEDB');
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: uniqueName(), owner: role, sql: SMALL });
    await runAsSuperuser(`ALTER DATABASE ${escapeIdentifier(database.name)} SET log_statement TO 'all'`);
    await makeBackup({ database, storage });
    const args = ['restore', 'latest', '--in-place', '--yes', database.name];
    const result = await pgark({ database, storage }, args);
    expect(result.exitCode).toBe(1);
    expect(said(result)).toContain('may not give the new database all grants and settings');
    expect(await databaseNames(database.name.slice(0, 10))).toEqual([database.name]);
  });
});
