import path from 'node:path';
import { expect, test, vi } from 'vitest';
import { Cluster } from '../support/cluster.ts';
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

  await using fresh = await Cluster.start();
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
