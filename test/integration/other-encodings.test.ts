import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sealerOf } from '../../src/app.ts';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { backupGlobals } from '../../src/operations/backup-globals.ts';
import { operationContext } from '../../src/operations/context.ts';
import { rolesIn } from '../../src/operations/global-roles.ts';
import { connect } from '../../src/postgres/client/connect.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import { NO_KEYS } from '../support/archive-restoring.ts';
import { expectFailure, fileStorage, pgarkJson, succeed } from '../support/backups.ts';
import { runPgark, runProgram } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { workFolder } from '../support/drills.ts';

/** A server whose names are in LATIN1, also those of roles, and one that has none of them. */
let latin: Cluster;
let other: Cluster;
let storage: Awaited<ReturnType<typeof fileStorage>>;
let env: Readonly<Record<string, string>>;

beforeAll(async () => {
  latin = await Cluster.start({ initdb: ['-E', 'LATIN1'] });
  other = await Cluster.start();
  storage = await fileStorage();
  await latin.sql('CREATE ROLE "jörg"; ');
  await latin.sql('CREATE DATABASE shop');
  await latin.sql(`ALTER ROLE "jörg" IN DATABASE shop SET search_path = 'über'`);
  await sqlIn(
    latin,
    'shop',
    `CREATE SCHEMA "büro" AUTHORIZATION "jörg"; CREATE TABLE "büro"."straße" AS SELECT 'größe'::text AS "maß";
     ALTER TABLE "büro"."straße" OWNER TO "jörg"; CREATE TABLE ascii AS SELECT 1 AS a; CREATE TABLE "nützlich" (a int)`,
  );
  env = { ...storage.env, DATABASE_URL: urlIn(latin, 'shop') };
  for (const format of ['plain', 'directory']) await succeed(['backup', '--format', format], env);
});
afterAll(async () => {
  await storage[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
  await latin[Symbol.asyncDispose]();
});

async function sqlIn(cluster: Cluster, database: string, text: string): Promise<readonly Record<string, unknown>[]> {
  const session = await connect({ ...cluster.connection, database }, { applicationName: 'test' });
  try {
    return await session.query(text);
  } finally {
    await session.close();
  }
}

function urlIn(cluster: Cluster, database: string): string {
  const url = new URL(cluster.url);
  url.pathname = `/${database}`;
  return url.href;
}

async function idsOf(format: string): Promise<readonly string[]> {
  const { storages } = await pgarkJson<{ storages: { backups: { id: string; format: string }[] }[] }>(['list'], env);
  return (storages[0]?.backups ?? []).filter((backup) => backup.format === format).map(({ id }) => id);
}

async function tablesAfter(name: string, ...selection: readonly string[]): Promise<readonly unknown[]> {
  const [id = ''] = await idsOf('directory');
  await succeed(['restore', id, '--to-db', name, ...selection], env);
  const rows = await sqlIn(
    latin,
    name,
    `SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname !~ '^(pg_|information)' ORDER BY 1`,
  );
  return rows.map((row) => row['name']);
}

test('a drill of a database in another encoding makes the roles that its names say', async () => {
  await using work = await workFolder();
  for (const format of ['plain', 'directory']) {
    const [id = ''] = await idsOf(format);
    expect(await pgarkJson(['drill', id, '--work-dir', work.path], env)).toMatchObject({ state: 'passed' });
  }
});

test('a part of it is found by its name, and may get another one', async () => {
  expect(await tablesAfter('one_table', '--table', 'straße')).toEqual(['büro.straße']);
  expect(await tablesAfter('one_schema', '--schema', 'büro', '--rename', 'büro=übrig')).toEqual(['übrig.straße']);
  expect(await sqlIn(latin, 'one_schema', `SELECT "maß" FROM "übrig"."straße"`)).toEqual([{ maß: 'größe' }]);
  expect(await tablesAfter('without', '--exclude-schema', 'büro', '--exclude-table', 'nützlich')).toEqual([
    'public.ascii',
  ]);
});

test('a drill on a server of another encoding says nothing of the backup', async () => {
  for (const id of [...(await idsOf('plain')), ...(await idsOf('directory'))]) {
    const drilled = await runPgark(['drill', id, '--to-url', urlIn(other, 'postgres')], { env });
    expectFailure(drilled, { exit: 1, message: /server of encoding UTF8: jörg/, hint: /without --to-url/ });
  }
});

test('its globals can be loaded as they are, settings of databases too', async () => {
  const store = new FileStore({ root: storage.path, clock: systemClock, random: systemRandom });
  const seal = { compression: { algorithm: 'gzip', level: 5 }, sealer: await sealerOf(undefined) } as const;
  const request = { source: 'latin', connection: latin.connection, store, seal, leaseTermMs: 60_000, prune: false };
  const { record } = await backupGlobals({ ...request, passwords: 'auto' }, operationContext());
  const sql = gunzipSync(await storage.get(record.object.key));
  await other.sql('CREATE DATABASE shop');
  const loaded = await runProgram('psql', ['-X', '-q', '-d', urlIn(other, 'postgres')], { input: sql });
  // The superuser is there.
  expect(loaded.stderr).not.toMatch(/ERROR: (?!.*role "postgres" already exists)/);
  const settings =
    'SELECT setrole::regrole::text AS role, setconfig AS config FROM pg_db_role_setting WHERE setdatabase > 0';
  expect(await other.sql(settings)).toEqual([{ role: '"jörg"', config: ['search_path="über"'] }]);
  const roles = await rolesIn(record, { store, keys: NO_KEYS, signal: new AbortController().signal });
  expect(roles.map(({ name }) => name)).toContain('jörg');
});

test('a database without an encoding whose names are no text in UTF-8 is backed up with format plain, which is said', async () => {
  await latin.sql(`CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII'`);
  await sqlIn(
    latin,
    'bytes',
    `DO $$ BEGIN EXECUTE format('CREATE TABLE %I AS SELECT 1 AS a', 'gr' || chr(252) || 'n'); END $$`,
  );
  const bytes = { ...env, DATABASE_URL: urlIn(latin, 'bytes') };
  const failed = await runPgark(['backup', '--format', 'directory'], { env: bytes });
  expectFailure(failed, { exit: 1, message: /a name in .*bytes is no text in UTF-8/, hint: /format plain/ });
  await succeed(['backup', '--format', 'plain'], bytes);
});

test('a backup bears the name that the database was asked for by, also where its own encoding reads others in its bytes', async () => {
  await using work = await workFolder();
  await using own = await fileStorage();
  const name = `sh op/ü'$(x);%`;
  await other.sql(`CREATE DATABASE "${name}" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`);
  await other.sql(`COMMENT ON DATABASE "${name}" IS 'kept'`);
  await sqlIn(other, name, `CREATE TABLE t AS SELECT 'ü'::text AS a`);
  const given = { ...own.env, DATABASE_URL: urlIn(other, encodeURIComponent(name)) };
  for (const format of ['plain', 'directory', 'physical']) await succeed(['backup', '--format', format], given);
  const { storages } = await pgarkJson<{ storages: { backups: unknown[] }[] }>(['list'], given);
  const named = { database: name, source: name };
  expect(storages).toMatchObject([{ backups: [named, named, named] }]);
  const drill = ['drill', '--kind', 'logical', '--work-dir', work.path];
  expect(await pgarkJson(drill, given)).toMatchObject({ state: 'passed' });
  await succeed(['restore', 'latest', '--in-place', '--yes', name], given);
  expect(await sqlIn(other, name, 'SELECT a FROM t')).toEqual([{ a: 'ü' }]);
  const comments = `SELECT shobj_description(oid, 'pg_database') AS kept FROM pg_database WHERE datname = '${name.replace("'", "''")}'`;
  expect(await other.sql(comments)).toEqual([{ kept: 'kept' }]);
});
