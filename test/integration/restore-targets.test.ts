import { describe, expect, test } from 'vitest';
import { startThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { createDatabase, createRole, openDatabase } from '../support/postgres.ts';
import {
  databaseNames,
  dumpOf,
  futureDatabase,
  keptOf,
  makeBackup,
  pgark,
  said,
  uniqueName,
} from '../support/restoring.ts';
import { RICH_SQL } from '../support/rich-database.ts';
import { fileStorage } from '../support/storage.ts';

const SMALL = 'CREATE TABLE t AS SELECT generate_series(1, 100) AS a';

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
