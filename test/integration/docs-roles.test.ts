import { mkdir } from 'node:fs/promises';
import { Client } from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { expectExit, expectFailure } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { blockOf, type MarkdownPage, readPage } from '../support/markdown.ts';
import { startReceiver } from '../support/receiver-process.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

// The SQL comes out of docs/security.md as it stands there: what is written suffices, and less does not.

const ROLES = ['pgark_dump', 'pgark_physical', 'pgark_restore', 'pgark_drill'];
let page: MarkdownPage;
let cluster: Cluster;
let place: TempDirectory;
let stores = 0;

beforeAll(async () => {
  page = await readPage('docs/security.md');
  place = await makeTempDirectory();
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await cluster.sql('CREATE ROLE shop_owner LOGIN; CREATE ROLE visitor LOGIN');
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await place[Symbol.asyncDispose]();
});

/** Each test begins with the database alone, into which nobody may connect who was not let in. */
beforeEach(async () => {
  const names = await cluster.sql<{ name: string }>(
    `SELECT format('%I', datname) AS name FROM pg_database WHERE datname ~ '^shop'`,
  );
  for (const { name } of names) await cluster.sql(`DROP DATABASE ${name} WITH (FORCE)`);
  await cluster.sql('REVOKE ALL ON DATABASE postgres FROM pgark_physical').catch(() => []);
  for (const role of ROLES) await cluster.sql(`DROP ROLE IF EXISTS ${role}`);
  await cluster.sql('CREATE DATABASE shop OWNER shop_owner');
  await cluster.sql('REVOKE CONNECT ON DATABASE shop FROM PUBLIC; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
  await sql('CREATE TABLE orders (id serial PRIMARY KEY, item text)', 'shop_owner');
  await sql(`INSERT INTO orders (item) SELECT md5(n::text) FROM generate_series(1, 100) AS n`, 'shop_owner');
});

/** In the database shop. */
async function sql(text: string, user = 'postgres', database = 'shop'): Promise<unknown[]> {
  const client = new Client({ connectionString: urlOf(user, database) });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end();
  }
}

const written = (...words: readonly string[]): Promise<unknown[]> => sql(blockOf(page, ...words));

const urlOf = (user: string, database: string): string =>
  `postgres://${user}:unused@127.0.0.1:${cluster.port}/${database}?sslmode=disable`;

async function newStore(): Promise<Readonly<Record<string, string>>> {
  stores += 1;
  const folder = place.join(`store-${stores}`);
  await mkdir(folder);
  return { BACKUP_STORAGE: `file://${folder}` };
}

async function pgarkAs(
  user: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<RunResult> {
  const store = env['BACKUP_STORAGE'] === undefined ? await newStore() : {};
  return runPgark(args, { env: { DATABASE_URL: urlOf(user, 'shop'), ...store, ...env } });
}

/** What a backup and the doctor say to a role with too few rights, the same. */
async function expectRefused(
  user: string,
  expected: { readonly message: RegExp; readonly hint: RegExp },
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  expectFailure(await pgarkAs(user, ['backup'], env), { exit: 1, ...expected });
  const doctor = await pgarkAs(user, ['doctor'], env);
  expectExit(doctor, 1);
  expect(doctor.stdout).toMatch(/^✖ /m);
  expect(doctor.stdout.replace(/^ {4}/gm, '')).toMatch(new RegExp(expected.hint.source, 'm'));
}

async function expectEnough(user: string, env: Readonly<Record<string, string>> = {}): Promise<RunResult> {
  expectExit(await pgarkAs(user, ['doctor'], env), 0);
  const result = await pgarkAs(user, ['backup'], env);
  expectExit(result, 0);
  return result;
}

describe('the role for dumps', () => {
  test.each(['plain', 'directory'])('suffices for the format %s, and for globals with passwords', async (format) => {
    await written('dump-role');
    const result = await expectEnough('pgark_dump', { BACKUP_FORMAT: format, BACKUP_GLOBALS: 'auto' });
    expect(result.stderr).not.toMatch(/password/i);
  });

  test('does not without the right to read, or the one to connect', async () => {
    await written('dump-role');
    await sql('REVOKE pg_read_all_data FROM pgark_dump');
    await expectRefused('pgark_dump', {
      message: /role pgark_dump may not read 2 tables and sequences: public\.orders, public\.orders_id_seq/,
      hint: /GRANT pg_read_all_data TO pgark_dump/,
    });
    await sql('REVOKE CONNECT ON DATABASE shop FROM pgark_dump');
    await expectRefused('pgark_dump', {
      message: /permission denied for database "shop"/,
      hint: /GRANT CONNECT ON DATABASE "shop" TO "pgark_dump"/,
    });
    const check = await pgarkAs('pgark_dump', ['check']);
    expect(check.stdout).toMatch(/^✖ database shop: .*permission denied for database "shop"$/m);
  });

  test('needs what is said of row-level security and of large objects where there are any', async () => {
    await written('dump-role');
    await sql('ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON orders USING (id < 5)');
    await expectRefused('pgark_dump', {
      message: /row-level security would hide rows from role pgark_dump in 1 table: public\.orders/,
      hint: /ALTER ROLE pgark_dump BYPASSRLS/,
    });
    await written('dump-rls');
    await expectEnough('pgark_dump');
    await sql('SELECT lo_create(4711), lo_create(4712)');
    await expectRefused('pgark_dump', {
      message: /role pgark_dump may not read 2 large objects: 4711 and others/,
      hint: /GRANT SELECT ON LARGE OBJECT 4711 TO pgark_dump/,
    });
    await written('dump-large-objects');
    await expectEnough('pgark_dump');
  });

  test('may be one of schemas, which then reads what is made later, too, and no passwords', async () => {
    await written('dump-role-by-schema');
    await sql('CREATE TABLE later (id serial)', 'shop_owner');
    const result = await expectEnough('pgark_dump', { BACKUP_GLOBALS: 'auto' });
    expect(result.stderr).toMatch(/may not read passwords/);
    await expectEnough('pgark_dump', { BACKUP_FORMAT: 'directory' });
    await sql('REVOKE USAGE ON SCHEMA public FROM pgark_dump; REVOKE USAGE ON SCHEMA public FROM PUBLIC');
    await expectRefused('pgark_dump', {
      message: /may not read 4 tables and sequences: public\.later, /,
      hint: /grant USAGE and SELECT on each schema and table/,
    });
  });
});

describe('the role for physical backups and WAL', () => {
  const physical = (): Record<string, string> => ({
    DATABASE_URL: urlOf('pgark_physical', 'postgres'),
    BACKUP_FORMAT: 'physical',
    BACKUP_NAME: 'main',
  });

  test('suffices for a base backup and a receiver, and not without REPLICATION or the database of its URL', async () => {
    await written('replication-role');
    const env = { ...physical(), ...(await newStore()) };
    await expectEnough('pgark_physical', env);
    const receiver = await startReceiver(env);
    receiver.kill('SIGTERM');
    expectExit(await receiver.ended, 0);
    await sql('ALTER ROLE pgark_physical NOREPLICATION');
    await expectRefused(
      'pgark_physical',
      { message: /role pgark_physical may not replicate/, hint: /ALTER ROLE "pgark_physical" REPLICATION/ },
      physical(),
    );
    const receive = await runPgark(['wal', 'receive'], { env });
    expectExit(receive, 1);
    expect(receive.stderr).toMatch(/REPLICATION/);
    await sql('ALTER ROLE pgark_physical REPLICATION; REVOKE CONNECT ON DATABASE postgres FROM pgark_physical');
    await expectRefused(
      'pgark_physical',
      {
        message: /permission denied for database "postgres"/,
        hint: /GRANT CONNECT ON DATABASE "postgres" TO "pgark_physical"/,
      },
      physical(),
    );
  });
});

describe('the role for restores', () => {
  const ownerSql = `SELECT tableowner FROM pg_tables WHERE tablename = 'orders'`;

  test('suffices for a new database, with owners and grants, and not without one of its rights', async () => {
    const store = await newStore();
    await written('dump-role');
    expectExit(await pgarkAs('pgark_dump', ['backup'], store), 0);
    await written('restore-role');
    await cluster.sql('GRANT CONNECT ON DATABASE postgres TO PUBLIC');
    const restore = (...args: readonly string[]): Promise<RunResult> =>
      pgarkAs('pgark_restore', ['restore', 'latest', ...args], store);
    expectExit(await restore('--to-db', 'shop_copy'), 0);
    expect(await sql(ownerSql, 'postgres', 'shop_copy')).toEqual([{ tableowner: 'shop_owner' }]);
    await sql('REVOKE shop_owner FROM pgark_restore');
    expectFailure(await restore('--to-db', 'shop_other'), {
      exit: 1,
      message: /must be member of role "shop_owner"|must be able to SET ROLE "shop_owner"/,
      hint: /GRANT "shop_owner" TO the role that restores, or .*--no-owner/,
    });
    expectExit(await restore('--to-db', 'shop_other', '--no-owner', '--no-privileges'), 0);
    expect(await sql(ownerSql, 'postgres', 'shop_other')).toEqual([{ tableowner: 'pgark_restore' }]);
    await sql('ALTER ROLE pgark_restore NOCREATEDB');
    expectFailure(await restore('--to-db', 'shop_third'), {
      exit: 1,
      message: /role pgark_restore may not create/,
      hint: /CREATEDB/,
    });
  });

  test('in place needs the right to end the sessions of others, too', async () => {
    const store = await newStore();
    await written('dump-role');
    expectExit(await pgarkAs('pgark_dump', ['backup'], store), 0);
    await written('restore-role');
    await cluster.sql('GRANT CONNECT ON DATABASE postgres TO PUBLIC; GRANT CONNECT ON DATABASE shop TO visitor');
    const visitor = new Client({ connectionString: urlOf('visitor', 'shop') });
    const ended = new Promise<void>((resolve) => void visitor.once('end', resolve));
    visitor.on('error', () => {});
    await visitor.connect();
    const restore = (): Promise<RunResult> =>
      pgarkAs('pgark_restore', ['restore', 'latest', '--in-place', '--yes', 'shop'], store);
    expectFailure(await restore(), { exit: 1, message: /session|connected/, hint: /pg_signal_backend/ });
    expect(await sql(ownerSql)).toEqual([{ tableowner: 'shop_owner' }]);
    await written('restore-in-place');
    expectExit(await restore(), 0);
    await ended;
    expect(await sql(ownerSql)).toEqual([{ tableowner: 'shop_owner' }]);
  });
});

test('the role for drills makes the database and the roles, and drops them; what it lacks is no word on the backup', async () => {
  const store = await newStore();
  await written('dump-role');
  expectExit(await pgarkAs('pgark_dump', ['backup'], store), 0);
  await written('drill-role');
  await cluster.sql('GRANT CONNECT ON DATABASE postgres TO PUBLIC');
  const drill = (): Promise<RunResult> =>
    pgarkAs('pgark_dump', ['drill', '--to-url', urlOf('pgark_drill', 'postgres')], store);
  const foreign = await drill();
  expectFailure(foreign, { exit: 1, message: /cannot be tried here: .*"shop_owner"/, hint: /member of the roles/ });
  await sql('ALTER ROLE shop_owner RENAME TO other_owner');
  try {
    expectExit(await drill(), 0);
    expect(await sql(`SELECT 1 FROM pg_roles WHERE rolname = 'shop_owner'`)).toEqual([]);
    expect(await sql(`SELECT 1 FROM pg_database WHERE datname ~ '^pgark_drill'`)).toEqual([]);
    await sql('ALTER ROLE pgark_drill NOCREATEDB');
    expectFailure(await drill(), { exit: 1, message: /role pgark_drill may not create/, hint: /CREATEDB/ });
    await sql('ALTER ROLE pgark_drill CREATEDB NOCREATEROLE');
    expectFailure(await drill(), { exit: 1, message: /permission denied to create role/, hint: /./ });
  } finally {
    await sql('ALTER ROLE other_owner RENAME TO shop_owner');
  }
});
