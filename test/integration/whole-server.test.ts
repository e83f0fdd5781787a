import { randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test, vi } from 'vitest';
import { keys } from '../../src/repository/keys.ts';
import { Cluster } from '../support/cluster.ts';
import { makeGlobalsId } from '../support/globals.ts';
import { nextSecond } from '../support/next-second.ts';
import { said } from '../support/restoring.ts';
import { dumped, serverPlace, serverUrl, sqlIn } from '../support/whole-server.ts';

// Servers start and end beside others on few cores.
vi.setConfig({ testTimeout: 600_000 });

const ODD = `we"ird $pgark$ 'na/me Ü`;
const ODD_SQL = `"we""ird $pgark$ 'na/me Ü"`;
const PASSWORD = 'S3cret of app';

/** Roles, a tablespace and databases with all that hangs on them. */
async function fill(server: Cluster, tablespace: string): Promise<void> {
  await sqlIn(
    server,
    'postgres',
    `CREATE ROLE app LOGIN PASSWORD '${PASSWORD}' CONNECTION LIMIT 7 VALID UNTIL '2039-01-02 03:04:05+01'`,
    `CREATE ROLE ${ODD_SQL} LOGIN NOINHERIT CREATEDB PASSWORD 'odd'`,
    'CREATE ROLE boss SUPERUSER CREATEROLE LOGIN',
    'CREATE ROLE reader LOGIN IN ROLE app',
    `GRANT app TO ${ODD_SQL} WITH ADMIN OPTION`,
    `SET ROLE ${ODD_SQL}`,
    'GRANT app TO boss',
    'RESET ROLE',
    'GRANT pg_read_all_data TO reader',
    `ALTER ROLE app SET search_path = app, "$user", "A b"`,
    `ALTER ROLE app SET "my.thing" = E'it''s \\\\ back'`,
    `ALTER ROLE ${ODD_SQL} SET work_mem = '7MB'`,
    `COMMENT ON ROLE app IS E'of the shop; -- it''s\\nCREATE ROLE none;'`,
    'GRANT SET ON PARAMETER log_min_duration_statement TO app',
    'GRANT ALTER SYSTEM ON PARAMETER work_mem TO reader WITH GRANT OPTION',
    `COPY (SELECT) TO PROGRAM 'mkdir -p ${tablespace}'`,
    `CREATE TABLESPACE "fa st" OWNER app LOCATION '${tablespace}'`,
    `ALTER TABLESPACE "fa st" SET (seq_page_cost = 3)`,
    `GRANT CREATE ON TABLESPACE "fa st" TO reader WITH GRANT OPTION`,
    `COMMENT ON TABLESPACE "fa st" IS 'quick'`,
    'CREATE TABLE notes AS SELECT 1 AS one',
    `CREATE DATABASE shop OWNER app TABLESPACE "fa st"`,
    `CREATE DATABASE ${ODD_SQL} OWNER ${ODD_SQL}`,
    `ALTER DATABASE shop SET statement_timeout = '5min'`,
    `ALTER ROLE reader IN DATABASE shop SET search_path = app`,
    'REVOKE CONNECT ON DATABASE shop FROM PUBLIC',
    'GRANT CONNECT ON DATABASE shop TO reader',
    `COMMENT ON DATABASE shop IS 'sells'`,
  );
  await sqlIn(
    server,
    'shop',
    'CREATE SCHEMA app AUTHORIZATION app',
    'CREATE TABLE app.orders AS SELECT n FROM generate_series(1, 100) n',
    'ALTER TABLE app.orders OWNER TO app',
    'GRANT SELECT ON app.orders TO reader',
  );
  await sqlIn(server, ODD, `CREATE TABLE t AS SELECT 'x' AS x`, `GRANT SELECT ON t TO app`);
}

interface All {
  readonly state: string;
  readonly globals: { readonly objects: readonly PlannedJson[] };
  readonly databases: readonly { readonly database: string; readonly state: string; readonly configured: boolean }[];
}

interface PlannedJson {
  readonly kind: string;
  readonly name: string;
  readonly action: string;
  readonly notes: readonly string[];
}

test('a server that is gone comes back by one command: roles, tablespaces, and each database as it was', async () => {
  await using old = await Cluster.start();
  await using place = await serverPlace(old);
  const tablespace = path.join(old.directory, 'fast');
  await fill(old, tablespace);
  await place.ends(0, 'backup');
  const databases = ['postgres', 'shop', ODD];
  const before = [await dumped(old), ...(await Promise.all(databases.map((name) => dumped(old, name))))];
  await old.stop();

  // It would write the passwords into its log.
  await using fresh = await Cluster.start({ settings: { log_statement: 'all', log_min_duration_statement: '0' } });
  const restore = ['restore', '--all', '--to-url', serverUrl(fresh)];
  // Two servers cannot share the directory, but one can take it after the other.
  await fresh.sql(`COPY (SELECT) TO PROGRAM 'mv ${tablespace} ${tablespace}.gone'`);
  const refused = await place.ends(1, ...restore);
  expect(said(refused)).toContain(`"fa st": the server has no directory ${tablespace}`);
  expect(said(refused)).toContain('--no-tablespaces');
  await fresh.sql(`COPY (SELECT) TO PROGRAM 'mkdir ${tablespace}'`);

  const planned = await place.json<All>(0, ...restore, '--plan');
  expect(planned.state).toBe('planned');
  expect(planned.databases.map(({ database, state }) => [database, state])).toEqual(
    [...databases].toSorted().map((name) => [name, 'planned']),
  );
  expect(planned.globals.objects).toContainEqual({
    kind: 'role',
    name: 'app',
    action: 'create',
    notes: [],
    failed: [],
  });
  expect(await fresh.value(`select count(*) from pg_roles where rolname = 'app'`)).toBe('0');

  const done = await place.ends(0, ...restore);
  expect(done.stdout).toMatch(/restored 3 of 3 databases of main/);
  expect(done.stdout + done.stderr).not.toMatch(/SCRAM|S3cret/);
  expect(await fresh.log()).not.toMatch(/SCRAM-SHA/);
  expect([await dumped(fresh), ...(await Promise.all(databases.map((name) => dumped(fresh, name))))]).toEqual(before);

  const again = await place.ends(1, ...restore);
  expect(said(again)).toMatch(/has databases of these names already: shop, we"ird/);
  expect(said(again)).toContain('--exclude-database');
  const runs = await place.json<{ runs: { kind: string; state: string; database?: string }[] }>(0, 'runs');
  expect(runs.runs.filter(({ kind }) => kind === 'restore').map(({ state, database }) => [state, database])).toEqual(
    expect.arrayContaining([
      ['succeeded', undefined],
      ['succeeded', 'shop'],
    ]),
  );
});

test('what is encrypted comes back too, without what is left out, and what is damaged stops nothing else', async () => {
  await using old = await Cluster.start();
  const passphrase = randomBytes(24).toString('hex');
  await using place = await serverPlace(old, {
    encryption: { own: { type: 'openssl', passphrase } },
    databases: {
      // The second of January, which another server takes for the first of February.
      url: `${old.url}${old.url.includes('?') ? '&' : '?'}options=${encodeURIComponent('-c datestyle=SQL,DMY')}`,
      encryption: 'own',
      jobs: { dump: { format: 'plain', to: ['local'] } },
    },
  });
  const tablespace = path.join(old.directory, 'fast');
  await fill(old, tablespace);
  // Amounts of money are computed by it when the view is made anew.
  await sqlIn(old, 'postgres', `ALTER DATABASE shop SET timezone = 'Asia/Tokyo'`, `CREATE DATABASE gone`);
  await sqlIn(
    old,
    'postgres',
    `ALTER DATABASE postgres SET work_mem = '5MB'`,
    'REVOKE CONNECT ON DATABASE postgres FROM PUBLIC',
  );
  await sqlIn(
    old,
    'shop',
    `CREATE MATERIALIZED VIEW app.local AS SELECT '2026-01-01 00:00+00'::timestamptz::timestamp AS t`,
  );
  await place.ends(0, 'backup');
  await sqlIn(old, 'postgres', 'DROP DATABASE gone', 'CREATE DATABASE damaged');
  await sqlIn(old, 'damaged', 'CREATE TABLE t AS SELECT md5(n::text) FROM generate_series(1, 200000) n');
  const between = new Date().toISOString();
  await nextSecond();
  await place.ends(0, 'backup');
  const shop = await dumped(old, 'shop');
  const standing = await dumped(old, 'postgres');
  await old.stop();
  await damage(place.storage, 'damaged');
  const unreadable = keys.globalsRecord('main', makeGlobalsId());
  await writeFile(path.join(place.storage, unreadable), 'no JSON');

  await using fresh = await Cluster.start();
  const restore = ['restore', 'main', '--all', '--to-url', serverUrl(fresh)];
  const options = ['--no-tablespaces', '--no-role-passwords'];
  const earlier = await place.json<All & { without_backup_so_old: string[] }>(
    0,
    ...restore,
    ...options,
    '--at',
    between,
    '--plan',
  );
  expect(earlier.without_backup_so_old).toEqual(['damaged']);
  const unknown = await place.ends(2, ...restore, ...options, '--exclude-database', 'shup');
  expect(said(unknown)).toContain('no backup of a database called shup');

  const done = await place.ends(20, ...restore, ...options, '--exclude-database', ODD);
  expect(done.stdout).toMatch(/restored 3 of 4 databases of main/);
  expect(done.stdout).toMatch(/damaged +\S+ .* failed/);
  expect(done.stderr).toMatch(/WARNING.*have no passwords/);
  expect(done.stderr).not.toContain('are not written down');
  expect(done.stderr).toContain(unreadable);
  expect(await fresh.sql(`select datname from pg_database where not datistemplate order by 1`)).toEqual(
    ['gone', 'postgres', 'shop'].map((datname) => ({ datname })),
  );
  expect(await fresh.value('select count(*) from pg_authid where rolpassword is not null')).toBe('0');
  expect(await fresh.value(`select rolvaliduntil = '2039-01-02 03:04:05+01' from pg_roles where rolname = 'app'`)).toBe(
    'true',
  );
  // Settings that have to be there for the load come before the others.
  const comparable = (text: string): readonly string[] =>
    text
      .replace(/ TABLESPACE = "fa st"/, '')
      .replaceAll(/^SET default_tablespace = .*$/gm, '')
      .split('\n')
      .toSorted();
  expect(comparable(await dumped(fresh, 'shop'))).toEqual(comparable(shop));
  expect(await dumped(fresh, 'postgres')).toBe(standing);
});

/** How many sessions wait for it. */
function waiting(event: string): string {
  return `select count(*) from pg_stat_activity where wait_event = '${event}'`;
}

/** Changes a byte in the middle of what is stored of a database. */
async function damage(storage: string, database: string): Promise<void> {
  const [name = ''] = (await readdir(storage)).filter((each) => each.startsWith(database));
  const file = path.join(storage, name);
  const bytes = await readFile(file);
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  await writeFile(file, bytes);
}

test('a server that has some of it keeps what it has, and is given what it lacks', async () => {
  await using old = await Cluster.start();
  await using place = await serverPlace(old);
  await fill(old, path.join(old.directory, 'fast'));
  await sqlIn(old, 'postgres', `ALTER DATABASE template1 SET work_mem = '6MB'`);
  await place.ends(0, 'backup', '--format', 'directory');
  const roles = await dumped(old);

  await using other = await Cluster.start();
  await sqlIn(
    other,
    'postgres',
    `CREATE ROLE app NOLOGIN CREATEDB PASSWORD 'its own' CONNECTION LIMIT 3`,
    `ALTER ROLE app SET search_path = elsewhere`,
    'CREATE ROLE reader LOGIN IN ROLE app',
    'CREATE ROLE stays SUPERUSER',
    'CREATE ROLE creator LOGIN CREATEROLE',
    'CREATE DATABASE shop',
  );
  const restore = (user: string, ...options: readonly string[]): string[] => [
    'restore',
    '--globals',
    '--no-tablespaces',
    '--to-url',
    serverUrl(other, user),
    ...options,
  ];
  const digest = (): Promise<string> => other.value(`select rolpassword from pg_authid where rolname = 'app'`);
  const own = await digest();

  // Not a superuser, who makes what such a role may.
  const partly = await place.json<{ state: string; objects: (PlannedJson & { failed: unknown[] })[] }>(
    4,
    ...restore('creator'),
  );
  expect(partly.state).toBe('partial');
  expect(partly.objects.filter(({ failed }) => failed.length > 0).map(({ kind, name }) => `${kind} ${name}`)).toEqual(
    expect.arrayContaining(['role boss', 'membership boss in app']),
  );
  expect(partly.objects).toContainEqual(expect.objectContaining({ name: ODD, action: 'create', failed: [] }));
  expect(await other.value(`select count(*) from pg_roles where rolname = 'boss'`)).toBe('0');

  const planned = await place.ends(0, ...restore('postgres', '--plan'));
  expect(planned.stdout).toMatch(
    /leave +role app \(differs: CREATEDB, LOGIN, CONNECTION LIMIT, PASSWORD, VALID UNTIL, the setting search_path, the setting my\.thing/,
  );
  expect(planned.stdout).toMatch(/leave out +tablespace fa st/);
  expect(planned.stdout).toMatch(/leave +membership reader in pg_read_all_data .*--overwrite-roles/);
  expect(planned.stdout).not.toMatch(/SCRAM|stays|creator/);
  await place.ends(0, ...restore('postgres'));
  expect(await digest()).toBe(own);
  expect(await other.sql(`select rolcanlogin, rolconnlimit from pg_roles where rolname = 'app'`)).toEqual([
    { rolcanlogin: false, rolconnlimit: 3 },
  ]);
  expect(await other.value(`select rolconfig::text from pg_roles where rolname = 'app'`)).toContain(
    'search_path=elsewhere',
  );
  expect(await other.value(`select rolconfig::text from pg_roles where rolname = 'app'`)).not.toContain('my.thing');
  expect(await other.value(`select pg_has_role('reader', 'pg_read_all_data', 'member')`)).toBe('false');
  expect(await other.value(`select rolsuper from pg_roles where rolname = 'stays'`)).toBe('true');
  const second = await place.ends(0, ...restore('postgres'));
  expect(second.stdout).not.toMatch(/create|add to/);

  await place.ends(0, ...restore('postgres', '--overwrite-roles', '--database-settings'));
  expect(await other.value(`select pg_get_userbyid(datdba) from pg_database where datname = 'shop'`)).toBe('app');
  expect(
    await other.value(`select setconfig::text from pg_db_role_setting where setdatabase = 1 and setrole = 0`),
  ).toBe('{work_mem=6MB}');
  await sqlIn(other, 'postgres', 'DROP DATABASE shop', 'DROP ROLE stays, creator');
  // Who gave a membership is gone, and tablespaces were left out.
  const comparable = (text: string): string =>
    text
      .replace(/-- Tablespaces[^]*?(?=--\n-- PostgreSQL)/, '')
      .replaceAll(/ GRANTED BY [^;]+/g, '')
      .replaceAll(/\n(?:--\s*|\n)+/g, '\n');
  expect(comparable(await dumped(other))).toBe(comparable(roles));

  // Interrupted while it waits to make a role.
  await other.sql('DROP ROLE boss');
  const held = sqlIn(other, 'postgres', 'BEGIN', 'LOCK TABLE pg_authid IN SHARE MODE', 'SELECT pg_sleep(600)').catch(
    () => {},
  );
  await vi.waitUntil(async () => (await other.value(waiting('PgSleep'))) === '1', { timeout: 60_000 });
  const interrupt = new AbortController();
  const ending = place.run(restore('postgres'), { signal: interrupt.signal });
  await vi.waitUntil(async () => (await other.value(waiting('relation'))) === '1', { timeout: 60_000 });
  interrupt.abort();
  expect(said(await ending)).toContain('some of the roles and tablespaces were not made');
  await other.sql(`select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'`);
  await held;
});
