import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openStore, sealerOf } from '../../src/app.ts';
import { silentLogger } from '../../src/common/log.ts';
import { Secret } from '../../src/common/secret.ts';
import type { GlobalsOutcome } from '../../src/operations/backup-globals.ts';
import { operationContext } from '../../src/operations/context.ts';
import { startThrowawayServer, type ThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { backupGlobalsOf } from '../../src/service/globals.ts';
import { expectFailure, fileStorage, pgarkJson, type Storage, substance, succeed } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { nextSecond } from '../support/next-second.ts';

// Servers start and end beside others on few cores.
vi.setConfig({ testTimeout: 300_000 });

let old: ThrowawayServer;
beforeAll(async () => {
  old = await startThrowawayServer({ listen: 'tcp' });
  await run(
    old,
    `CREATE ROLE app LOGIN PASSWORD 'of app' CONNECTION LIMIT 7;
     CREATE ROLE "we""ird na/me-Ü" LOGIN PASSWORD 'weird';
     CREATE ROLE reader LOGIN PASSWORD 'reads' IN ROLE app;
     ALTER ROLE app SET work_mem = '7MB';
     COMMENT ON ROLE app IS 'of the shop';
     CREATE ROLE nobody LOGIN PASSWORD 'knows'`,
  );
  await run(old, `CREATE DATABASE "sh'op $pgark$ ""Ü" OWNER app`);
  await run(
    old,
    `ALTER DATABASE "sh'op $pgark$ ""Ü" SET statement_timeout = '5min';
     ALTER ROLE reader IN DATABASE "sh'op $pgark$ ""Ü" SET search_path = app, "$user";
     ALTER DATABASE "sh'op $pgark$ ""Ü" CONNECTION LIMIT 42;
     REVOKE CONNECT ON DATABASE "sh'op $pgark$ ""Ü" FROM PUBLIC;
     GRANT CONNECT ON DATABASE "sh'op $pgark$ ""Ü" TO reader`,
  );
});
afterAll(() => old.stop());

const SHOP = `sh'op $pgark$ "Ü`;

async function connect(
  server: ThrowawayServer,
  { database = server.database, password = server.password } = {},
): Promise<Client> {
  const { host, port, user } = server;
  const client = new Client({ host, port, user, database, password: password.reveal() });
  await client.connect();
  return client;
}

async function run(
  server: ThrowawayServer,
  sql: string,
  login?: Parameters<typeof connect>[1],
): Promise<Record<string, unknown>[]> {
  const client = await connect(server, login);
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql);
    return rows;
  } finally {
    await client.end();
  }
}

/** Everything that globals are about, as a server tells it. */
async function globalsFacts(server: ThrowawayServer): Promise<unknown> {
  // Once they are loaded, the superuser has the password of the old server.
  const login = { password: old.password };
  const roles = await run(
    server,
    `select rolname, rolsuper, rolcanlogin, rolconnlimit, rolpassword, rolconfig, shobj_description(oid, 'pg_authid') as comment
       from (select a.*, r.rolconfig from pg_authid a join pg_roles r using (oid)) x
      where rolname !~ '^pg_' and rolname <> 'postgres' order by 1`,
    login,
  );
  const members = await run(
    server,
    'select roleid::regrole::text as role, member::regrole::text as member from pg_auth_members order by 1, 2',
    login,
  );
  const databases = await run(
    server,
    `select datname, datdba::regrole::text as owner, datconnlimit,
            (select array_agg(a::text order by a::text) from unnest(datacl) a) as acl,
            (select array_agg(coalesce(nullif(setrole, 0)::regrole::text, '') || setconfig::text order by setrole)
               from pg_db_role_setting where setdatabase = d.oid) as settings
       from pg_database d where not datistemplate and datname <> 'postgres' order by 1`,
    login,
  );
  return { roles, members, databases };
}

interface GlobalsChoice {
  readonly globals?: 'auto' | 'no-passwords' | 'none';
  readonly user?: string;
  readonly password?: string;
  readonly passphrase?: string;
  readonly prune?: boolean;
}

/** As a job of the service does it, with the warnings that it gave. */
async function store(
  storage: Storage & { readonly path: string },
  choice: GlobalsChoice = {},
): Promise<{ readonly outcome: GlobalsOutcome | undefined; readonly warnings: readonly string[] }> {
  const warnings: string[] = [];
  const logger = { ...silentLogger, warning: (event: string) => void warnings.push(event), child: () => logger };
  const retry = { retriesMax: 0, delayMs: 1, delayMsMax: 1 };
  const opened = await openStore({ type: 'file', name: 'local', path: storage.path, retry });
  const { passphrase } = choice;
  const sealer = await sealerOf(
    passphrase === undefined ? undefined : { name: 'x', scheme: 'openssl', passphrase: new Secret(passphrase) },
  );
  const connection = {
    host: old.host,
    port: old.port,
    user: choice.user ?? old.user,
    password: choice.password === undefined ? old.password : new Secret(choice.password),
    database: choice.user === undefined ? SHOP : 'postgres',
    sslMode: 'disable',
  } as const;
  const source = {
    name: 'main/server',
    connection,
    globals: choice.globals ?? 'auto',
    protection: 'normal',
    jobs: new Map(),
    notify: [],
  } as const;
  const destination = {
    store: opened,
    seal: { compression: { algorithm: 'gzip', level: 5 }, sealer },
    leaseTermMs: 60_000,
    prune: choice.prune ?? false,
  } as const;
  try {
    return { outcome: await backupGlobalsOf(source, destination, operationContext({ logger })), warnings };
  } finally {
    await opened.close();
  }
}

/** By stock tools, as docs/restore-by-hand.md says it. */
function load(server: ThrowawayServer, password: Secret, command: string): void {
  execFileSync('bash', ['-c', `set -o pipefail; ${command} | psql -X -q -d postgres`], {
    env: {
      PATH: process.env['PATH'] ?? '',
      PGHOST: server.host,
      PGPORT: String(server.port),
      PGUSER: server.user,
      PGPASSWORD: password.reveal(),
    },
    stdio: ['ignore', 'ignore', 'ignore'],
  });
}

async function sqlOf(storage: Storage, { record }: GlobalsOutcome): Promise<string> {
  return execFileSync('gunzip', ['-c'], { input: await storage.get(record.object.key), encoding: 'utf8' });
}

function present(outcome: GlobalsOutcome | undefined): GlobalsOutcome {
  if (outcome === undefined) throw new Error('no globals were stored');
  return outcome;
}

describe('the globals of a server', () => {
  test('make another server the same: roles with passwords, memberships, and the settings of databases', async () => {
    await using storage = await fileStorage();
    const { outcome, warnings } = await store(storage);
    const { record } = present(outcome);
    expect(warnings).toEqual([]);
    expect(record).toMatchObject({
      source: 'main/server',
      leftOut: { passwords: false, hiddenRoles: 0 },
      counts: { roles: 5, tablespaces: 0 },
      object: { key: `main%2Fserver/globals/${record.id}.sql.gz`, role: 'globals' },
    });
    expect((await storage.keys()).filter((key) => key.includes('globals/'))).toEqual([
      `.pgark/globals/main%2Fserver/${record.id}.json`,
      record.object.key,
    ]);
    await using fresh = await startThrowawayServer({ listen: 'tcp' });
    const command = `gunzip -c '${path.join(storage.path, record.object.key)}'`;
    load(fresh, fresh.password, command);
    expect(await globalsFacts(fresh)).toMatchObject({ databases: [] });
    await run(fresh, `CREATE DATABASE "sh'op $pgark$ ""Ü"`, { password: old.password });
    load(fresh, old.password, command);
    expect(await globalsFacts(fresh)).toEqual(await globalsFacts(old));
  });

  test('are encrypted as the backups are, and stock tools open them', async () => {
    await using storage = await fileStorage();
    const passphrase = randomBytes(24).toString('hex');
    const { outcome } = await store(storage, { passphrase });
    const { record } = present(outcome);
    expect(record.object.key).toMatch(/\.sql\.gz\.enc$/);
    expect((await storage.get(record.object.key)).toString('latin1')).not.toContain('CREATE ROLE');
    const file = path.join(storage.path, record.object.key);
    const text = execFileSync(
      'bash',
      ['-c', `openssl enc -d -aes-256-cbc -pbkdf2 -pass env:P -in '${file}' | gunzip -c`],
      { env: { PATH: process.env['PATH'] ?? '', P: passphrase }, encoding: 'utf8' },
    );
    expect(text).toContain('CREATE ROLE app;');
  });

  test('come without passwords where the role may not read them, and say so; with a role that may connect only', async () => {
    await using storage = await fileStorage();
    const { outcome, warnings } = await store(storage, { user: 'nobody', password: 'knows' });
    expect(present(outcome).record.leftOut).toEqual({ passwords: true, hiddenRoles: 0 });
    expect(warnings).toEqual(['globals.no_passwords']);
    const text = await sqlOf(storage, present(outcome));
    expect(text).toContain('CREATE ROLE app;');
    expect(text).not.toMatch(/SCRAM|PASSWORD/);
  });

  test('come without passwords where that is meant, and not at all where they are not wanted', async () => {
    await using storage = await fileStorage();
    const { outcome, warnings } = await store(storage, { globals: 'no-passwords' });
    expect(warnings).toEqual([]);
    expect(await sqlOf(storage, present(outcome))).not.toMatch(/SCRAM|PASSWORD/);
    const before = await storage.keys();
    expect((await store(storage, { globals: 'none' })).outcome).toBeUndefined();
    expect(await storage.keys()).toEqual(before);
  });

  test('leave nothing behind when they fail, before the dump or in its midst', async () => {
    await using storage = await fileStorage();
    await expect(store(storage, { user: 'nobody', password: 'wrong' })).rejects.toMatchObject({
      code: 'postgres-auth-failed',
    });
    expect(await storage.keys()).toEqual([]);
    // pg_dumpall asks for it when it has written the roles' names.
    await run(old, 'REVOKE SELECT ON pg_shseclabel FROM PUBLIC');
    await expect(store(storage, { user: 'nobody', password: 'knows' })).rejects.toMatchObject({
      code: 'postgres-privileges',
      message: expect.stringContaining('permission denied for table pg_shseclabel'),
      hint: expect.stringContaining('globals: none'),
    });
    await run(old, 'GRANT SELECT ON pg_shseclabel TO PUBLIC');
    expect(await substance(storage)).toEqual([]);
  });
});

describe('globals beside backups', () => {
  const env = (storage: Storage): Record<string, string> => ({
    ...storage.env,
    DATABASE_URL: old.url(SHOP).reveal(),
    BACKUP_NAME: 'main/server',
    BACKUP_GLOBALS: 'auto',
  });

  interface GlobalsJson {
    readonly id: string;
    readonly object: { readonly key: string };
  }

  /** Ids of the globals whose record is in the storage, oldest first. */
  async function idsIn(storage: Storage): Promise<string[]> {
    const keys = await storage.keys();
    const ids = keys.flatMap((key) => /^\.pgark\/globals\/main%2Fserver\/(.+)\.json$/.exec(key)?.[1] ?? []);
    expect(keys.filter((key) => key.startsWith('main%2Fserver/globals/'))).toHaveLength(ids.length);
    return ids.sort((one, other) => one.slice(0, 16).localeCompare(other.slice(0, 16)));
  }

  test('are stored with it, shown with it, listed, and foreign to nobody', async () => {
    await using storage = await fileStorage();
    await succeed(['backup'], env(storage));
    const [first = ''] = await idsIn(storage);
    const later = present((await store(storage)).outcome);
    const shown = await pgarkJson<{ readonly globals: GlobalsJson }>(['show', 'latest'], env(storage));
    expect(shown.globals).toMatchObject({ id: first, roles: 5, without_passwords: false });
    const text = await succeed(['show', 'latest'], env(storage));
    expect(text.stdout).toContain(`pgark restore ${first} --globals --to-url URL`);
    expect(text.stdout).toContain(`gunzip -c '${first}.sql.gz' | psql -X -d postgres`);
    const listed = await pgarkJson<{
      readonly storages: readonly { readonly globals: readonly GlobalsJson[]; readonly foreign: readonly unknown[] }[];
    }>(['list'], env(storage));
    expect(listed.storages[0]?.globals.map(({ id }) => id)).toEqual([first, later.record.id]);
    expect(listed.storages[0]?.foreign).toEqual([]);
    const list = await succeed(['list'], env(storage));
    expect(list.stdout).toContain(`roles and settings of main/server: ${later.record.object.key} (newest of 2)`);
  });

  test('go with the backups that needed them, by a prune or when newer ones are stored', async () => {
    await using storage = await fileStorage();
    const unneeded = present((await store(storage)).outcome).record.id;
    // Globals that were stored in the same second as the start of a backup stay.
    await nextSecond();
    const holder = await connect(old, { database: SHOP });
    await holder.query('CREATE TABLE held ()');
    await holder.query('BEGIN; LOCK TABLE held');
    const backup = succeed(['backup'], { ...env(storage), BACKUP_RETENTION_DAYS: 'forever' });
    await vi.waitFor(
      async () => expect(await run(old, 'SELECT 1 FROM pg_locks WHERE NOT granted')).not.toEqual([]),
      240_000,
    );
    await nextSecond();
    await holder.query('COMMIT');
    await backup;
    await holder.query('DROP TABLE held');
    await holder.end();
    const needed = (await idsIn(storage)).find((id) => id !== unneeded) ?? '';
    const newest = present((await store(storage)).outcome).record.id;
    const dry = await pgarkJson<{ readonly storages: readonly { readonly globals: readonly string[] }[] }>(
      ['prune', '--dry-run'],
      env(storage),
    );
    expect(dry.storages[0]?.globals).toEqual([unneeded]);
    expect(await idsIn(storage)).toHaveLength(3);
    const pruned = await succeed(['prune'], env(storage));
    expect(pruned.stdout).toContain('deleted the globals that none of them needs: 1');
    expect((await idsIn(storage)).sort()).toEqual([needed, newest].sort());
    const last = present((await store(storage, { prune: true })).outcome).record.id;
    expect((await idsIn(storage)).sort()).toEqual([needed, last].sort());
  });

  test('are pointed to when a restore misses roles, which are all named', async () => {
    await using storage = await fileStorage();
    await run(
      old,
      `CREATE TABLE IF NOT EXISTS goods (n int); ALTER TABLE goods OWNER TO app; GRANT SELECT ON goods TO reader`,
      { database: SHOP },
    );
    await succeed(['backup'], env(storage));
    const [stored = ''] = await idsIn(storage);
    await using fresh = await startThrowawayServer({ listen: 'tcp' });
    await run(fresh, 'CREATE ROLE reader');
    const args = ['restore', 'latest', '--to-url', fresh.url('copy').reveal()];
    expectFailure(await runPgark(args, { env: env(storage) }), {
      exit: 1,
      message:
        /role "app" does not exist; roles of the old server that are missing on 127\.0\.0\.1:\d+: "app", "nobody", "we"ird na\/me-Ü"$/,
      hint: /^create them first: pgark restore \d{8}T\d{6}Z-g\w{6} --globals --to-url URL makes all that are missing/,
    });
    load(fresh, fresh.password, `gunzip -c '${path.join(storage.path, `main%2Fserver/globals/${stored}.sql.gz`)}'`);
    const url = new URL(fresh.url('copy').reveal());
    url.password = old.password.reveal();
    await succeed(['restore', 'latest', '--to-url', url.href], env(storage));
  });
});
