import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { escapeIdentifier } from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { startThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { createDatabase, createRole, openDatabase, runAsSuperuser, type TestDatabase } from '../support/postgres.ts';
import { databaseNames, dumpOf, futureDatabase, makeBackup, pgark, said } from '../support/restoring.ts';
import { RICH_SQL } from '../support/rich-database.ts';
import { fileStorage } from '../support/storage.ts';

const SMALL = 'CREATE TABLE t AS SELECT generate_series(1, 100) AS a';

/** The old database that a restore in place keeps, of one whose name begins like no other. */
async function keptOf(database: TestDatabase): Promise<TestDatabase & { readonly exists: boolean }> {
  const [name] = await databaseNames(database.name.slice(0, 10)).then((names) =>
    names.filter((each) => each.includes('_before_')),
  );
  return { ...openDatabase(name ?? ''), exists: name !== undefined };
}

function uniqueName(): string {
  return `t${randomBytes(8).toString('hex')}`;
}

describe('a database of another name', { timeout: 300_000 }, () => {
  test('is made if it is not there', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: SMALL });
    await using restored = futureDatabase(`new "db' \\`);
    await makeBackup({ database: source, storage });
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', restored.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(restored)).toBe(await dumpOf(source));
    expect(await databaseNames(restored.name)).toEqual([restored.name]);
  });

  test('is filled if it is there and empty, large objects and all, in one transaction', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: RICH_SQL });
    await using restored = await createDatabase({ name: 'there', createOptions: 'TEMPLATE template0' });
    await makeBackup({ database: source, storage });
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', restored.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(restored)).toBe(await dumpOf(source));
  });

  test.each([
    ['table public.kept', 'CREATE TABLE kept (a int)'],
    ['function public.f()', `CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'`],
    ['type public.e', `CREATE TYPE e AS ENUM ('a')`],
    ['schema s', 'CREATE SCHEMA s'],
    ['large object 7', 'SELECT lo_create(7)'],
    ['publication p', 'CREATE PUBLICATION p FOR ALL TABLES'],
    ['collation public.plain', 'CREATE COLLATION plain FROM "C"'],
    ['conversion public.c', `CREATE CONVERSION c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8`],
    ['operator public.|+|(integer,integer)', 'CREATE OPERATOR |+| (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int)'],
    ['operator family public.f USING btree', 'CREATE OPERATOR FAMILY f USING btree'],
    ['text search configuration public.words', 'CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)'],
    ['text search dictionary public.words', 'CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = simple)'],
    ['cast (character varying AS pg_catalog.jsonb)', 'CREATE CAST (varchar AS jsonb) WITH INOUT'],
    ['foreign-data wrapper w', 'CREATE FOREIGN DATA WRAPPER w'],
  ])('is refused and left untouched if it holds %s', async (what, sql) => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: SMALL });
    await using target = await createDatabase({ name: 'full', sql });
    await makeBackup({ database: source, storage });
    const before = await dumpOf(target);
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', target.name]);
    expect(result.exitCode).toBe(1);
    expect(said(result)).toContain(`database "${target.name}" on 127.0.0.1 is not empty: it has ${what}`);
    expect(said(result)).toContain('--clean');
    expect(await dumpOf(target)).toBe(before);
  });

  test('an extension alone is not content', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: 'CREATE EXTENSION hstore; CREATE TABLE t (h hstore)' });
    await using target = await createDatabase({ name: 'ext', sql: 'CREATE EXTENSION hstore' });
    await makeBackup({ database: source, storage });
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', target.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(target)).toBe(await dumpOf(source));
  });

  test('what a plan says is not done', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: SMALL });
    await using restored = futureDatabase();
    const backup = await makeBackup({ database: source, storage });
    const result = await pgark({ database: source, storage }, [
      'restore',
      backup.id,
      '--to-db',
      restored.name,
      '--plan',
    ]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(result.stdout).toContain(`would restore ${backup.id}`);
    expect(result.stdout).toContain(`rename it to "${restored.name}"`);
    expect(await databaseNames(restored.name)).toEqual([]);
  });
});

describe('--clean', { timeout: 300_000 }, () => {
  test('drops whatever the target holds, and nothing of it is left', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: SMALL });
    await using target = await createDatabase({ name: 'rich', createOptions: 'TEMPLATE template0', sql: RICH_SQL });
    await makeBackup({ database: source, storage });
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', target.name, '--clean']);
    expect(result).toMatchObject({ exitCode: 0 });
    const left = await target.query<{ name: string }>(
      `SELECT nspname AS name FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
       UNION ALL SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
         AND oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e')
       UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
         AND oid NOT IN (SELECT objid FROM pg_depend WHERE deptype = 'e')
       UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
         AND oid NOT IN (SELECT objid FROM pg_depend WHERE deptype IN ('e', 'i'))
       UNION ALL SELECT evtname FROM pg_event_trigger UNION ALL SELECT pubname FROM pg_publication
       UNION ALL SELECT srvname FROM pg_foreign_server UNION ALL SELECT fdwname FROM pg_foreign_data_wrapper
       UNION ALL SELECT oid::text FROM pg_largeobject_metadata UNION ALL SELECT oid::text FROM pg_default_acl`,
    );
    expect(left.map(({ name }) => name).sort()).toEqual(['public', 't']);
  });

  test('drops casts between types that are the server’s, which lie in no schema', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({
      name: uniqueName(),
      sql: `${SMALL}; CREATE CAST (varchar AS jsonb) WITH INOUT; CREATE EXTENSION hstore`,
    });
    await makeBackup({ database, storage });
    const before = await dumpOf(database);
    await database.query('CREATE CAST ("char" AS pg_catalog.bit) WITH INOUT');
    const args = ['restore', 'latest', '--in-place', '--yes', database.name, '--clean'];
    expect(await pgark({ database, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(database)).toBe(before);
  });

  test('puts the same rich content in the place of itself', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({
      name: uniqueName(),
      createOptions: 'TEMPLATE template0',
      sql: RICH_SQL,
    });
    await makeBackup({ database, storage });
    const before = await dumpOf(database);
    await database.query('DELETE FROM huge; DROP TABLE lines');
    const args = ['restore', 'latest', '--in-place', '--yes', database.name, '--clean'];
    expect(await pgark({ database, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(database)).toBe(before);
    expect((await keptOf(database)).exists).toBe(false);
  });

  test.each([
    [
      'at the end',
      (dump: string) => {
        const end = dump.lastIndexOf('--\n-- PostgreSQL database dump complete');
        return `${dump.slice(0, end)}SELECT 1/0;\n${dump.slice(end)}`;
      },
    ],
    [
      'behind the large objects, whose own COMMIT must not end the transaction',
      (dump: string) => dump.replace(/(lo_close[\s\S]*?COMMIT;)/, '$1\nSELECT 1/0;'),
    ],
  ])('a load that fails %s leaves the old content as it was', async (_where, damage) => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: RICH_SQL });
    await using target = await createDatabase({
      name: 'old',
      sql: `CREATE TABLE old AS SELECT 1 AS a; SELECT lo_from_bytea(9, 'x'); CREATE VIEW v AS SELECT * FROM old`,
    });
    const dump = Buffer.from(await dumpOf(source), 'utf8').toString();
    const damaged = damage(dump);
    expect(damaged).not.toBe(dump);
    await storage.put('damaged.sql', Buffer.from(damaged, 'latin1'));
    const before = await dumpOf(target);
    const result = await pgark({ database: source, storage }, [
      'restore',
      'damaged.sql',
      '--to-db',
      target.name,
      '--clean',
    ]);
    expect(result.exitCode).toBe(1);
    expect(said(result)).toContain('division by zero');
    expect(await dumpOf(target)).toBe(before);
  });
});

describe('another server', { timeout: 300_000 }, () => {
  test('gets the database, made if missing, with the URL’s password and without a configured database', async () => {
    await using server = await startThrowawayServer({ listen: 'tcp' });
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: SMALL });
    const backup = await makeBackup({ database: source, storage });
    const url = server.url(source.name).reveal();
    const result = await pgark({ storage }, ['restore', backup.key, '--to-url', url]);
    expect(result).toMatchObject({ exitCode: 0 });
    const env = { PGHOST: server.host, PGPORT: String(server.port), PGUSER: server.user, PGDATABASE: source.name };
    const there = { ...source, env: { ...env, PGPASSWORD: server.password.reveal() } };
    expect(await dumpOf(there)).toBe(await dumpOf(source));
    const again = await pgark({ storage }, ['restore', 'latest', '--to-url', url]);
    expect(again.exitCode).toBe(1);
    expect(said(again)).toContain('is not empty');
    expect(again.stderr + again.stdout).not.toContain(server.password.reveal());
  });
});

describe('a role that may not create databases', { timeout: 300_000 }, () => {
  test('fills an empty database that it owns', async () => {
    await using role = await createRole();
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'owned', owner: role, sql: SMALL });
    await using target = await createDatabase({ name: 'empty', owner: role });
    await makeBackup({ database: source, storage });
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', target.name]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(target)).toBe(await dumpOf(source));
  });

  test('cannot restore into one that is missing, and is told so', async () => {
    await using role = await createRole();
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'owned', owner: role, sql: SMALL });
    await makeBackup({ database: source, storage });
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', 'missing one']);
    expect(result.exitCode).toBe(1);
    expect(said(result)).toContain(`database "missing one" does not exist, and role ${role.user} may not create it`);
  });

  test('cannot restore in place beside, is told why, and can with --clean', async () => {
    await using role = await createRole();
    await using storage = await fileStorage();
    await using source = await createDatabase({
      name: 'owned',
      owner: role,
      createOptions: 'TEMPLATE template0',
      sql: `CREATE SCHEMA s; CREATE TABLE s.t (id int GENERATED ALWAYS AS IDENTITY, v text); INSERT INTO s.t (v) VALUES ('a');
            CREATE VIEW v AS SELECT * FROM s.t; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC`,
    });
    await makeBackup({ database: source, storage });
    const before = await dumpOf(source);
    await source.query('DELETE FROM s.t; CREATE TABLE more (a int)');
    const changed = await dumpOf(source);
    const args = ['restore', 'latest', '--in-place', '--yes', source.name];
    const refused = await pgark({ database: source, storage }, args);
    expect(refused.exitCode).toBe(1);
    expect(said(refused)).toContain(`role ${role.user} may not create databases`);
    expect(said(refused)).toContain('--clean');
    expect(await dumpOf(source)).toBe(changed);
    const planned = await pgark({ database: source, storage }, [...args, '--clean', '--plan']);
    expect(planned.stdout).toContain('drop everything that database');
    expect(await dumpOf(source)).toBe(changed);
    // Of a role that this one is not of, as platforms give them to each database: they are left alone.
    const platforms = openDatabase(source.name);
    await platforms.query('ALTER DEFAULT PRIVILEGES GRANT SELECT ON SEQUENCES TO pg_monitor');
    expect(await pgark({ database: source, storage }, [...args, '--clean'])).toMatchObject({ exitCode: 0 });
    await platforms.query('ALTER DEFAULT PRIVILEGES REVOKE SELECT ON SEQUENCES FROM pg_monitor');
    expect(await dumpOf(source)).toBe(before);
  });
});

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
