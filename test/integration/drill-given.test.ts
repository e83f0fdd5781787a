import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import { connect } from '../../src/postgres/client/connect.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import { expectFailure, fileStorage, pgarkJson, succeed } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { DamagingStore } from '../support/damaging-store.ts';
import { drillIn, proofsIn, workFolder } from '../support/drills.ts';
import { ServerFolder } from '../support/physical.ts';

/** Of drills that run at the same time, nobody else's may be here. */
let given: Cluster;
let original: Cluster;
let folder: ServerFolder;
let work: Awaited<ReturnType<typeof workFolder>>;

beforeAll(async () => {
  given = await Cluster.start();
  original = await Cluster.start();
  folder = await ServerFolder.make(original.binDir);
  work = await workFolder();
  await folder.makeFolder(folder.join('space'));
  await original.sql(`CREATE TABLESPACE apart LOCATION '${folder.join('space')}'`);
  await original.sql('CREATE DATABASE roles');
  await original.sql('CREATE ROLE reader');
  await sqlIn('roles', 'CREATE TABLE t AS SELECT 1 AS a; GRANT SELECT ON t TO reader');
  await original.sql('CREATE TABLE t TABLESPACE apart AS SELECT 1 AS a');
});
afterAll(async () => {
  await work[Symbol.asyncDispose]();
  await original[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
  await given[Symbol.asyncDispose]();
});

async function sqlIn(database: string, text: string): Promise<void> {
  const session = await connect({ ...original.connection, database }, { applicationName: 'test' });
  await session.query(text);
  await session.close();
}

const urlIn = (database: string): string => {
  const url = new URL(original.url);
  url.pathname = `/${database}`;
  return url.href;
};

/** A backup of the database whose rights name a role that the given server does not have. */
async function backedUpRoles() {
  const storage = await fileStorage();
  await succeed(['backup', '--format', 'directory'], { ...storage.env, DATABASE_URL: urlIn('roles') });
  const store = new FileStore({ root: storage.path, clock: systemClock, random: systemRandom });
  return { store, [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose]() };
}

const scratch = () => ({ kind: 'given', connection: given.connection }) as const;
const rolesOfDrills = async (): Promise<readonly unknown[]> =>
  given.sql(`select rolname from pg_roles where shobj_description(oid, 'pg_authid') ~ '^pgark drill of'`);

test('a drill that is repeated makes its database and the roles anew, and drops them', async () => {
  await using place = await backedUpRoles();
  let isLoading = false;
  let isRepeated = false;
  const store = new DamagingStore(place.store, () => isLoading && !isRepeated, {
    before: async () => {
      isLoading = (await given.sql(`select from pg_database where datname ~ '^pgark_drill_'`)).length > 0;
    },
  });
  const warning = (event: string): void => void (isRepeated ||= event === 'drill.repeated');
  const logger: Logger = { ...silentLogger, warning, child: () => logger };
  const assertions = [{ sql: 'select count(*) = 1 from t' }];
  await drillIn(store, work, { scratch: scratch(), assertions }, { logger });
  expect(isRepeated).toBe(true);
  expect(await proofsIn(place.store)).toMatchObject([{ passed: true }]);
  expect(await rolesOfDrills()).toEqual([]);
  expect(await given.sql(`select from pg_database where datname ~ '^pgark_drill_'`)).toEqual([]);
});

test('a drill leaves the roles that it made to others on the same server, and the last one drops them', async () => {
  await using place = await backedUpRoles();
  // As a drill does for as long as it lives. One that is held up in the midst of COPY would keep others from dropping databases.
  const other = await connect({ ...given.connection, database: 'postgres' }, { applicationName: 'other' });
  try {
    await other.query(`select pg_advisory_lock_shared(hashtextextended('pgark drill: all', 0))`);
    await drillIn(place.store, work, { scratch: scratch() });
    expect(await rolesOfDrills()).toHaveLength(1);
    // They are used, and not made again.
    await drillIn(place.store, work, { scratch: scratch() });
    expect(await rolesOfDrills()).toHaveLength(1);
    await other.query('select pg_advisory_unlock_all()');
    await drillIn(place.store, work, { scratch: scratch() });
    expect(await rolesOfDrills()).toEqual([]);
  } finally {
    await other.close();
  }
});

test('a role that somebody else makes at the same moment is taken as it is', async () => {
  await using place = await backedUpRoles();
  const other = await connect(given.connection, { applicationName: 'other' });
  try {
    await other.query('BEGIN; CREATE ROLE reader');
    let isOver = false;
    const drilled = drillIn(place.store, work, { scratch: scratch() }).finally(() => {
      isOver = true;
    });
    const waits = `exists (select from pg_stat_activity where query ~ 'CREATE ROLE "?reader' and wait_event_type = 'Lock')`;
    const waiting = given.until(waits);
    await Promise.race([waiting, drilled]);
    expect(isOver).toBe(false);
    await other.query('COMMIT');
    await drilled;
    expect(await rolesOfDrills()).toEqual([]);
  } finally {
    await other.query('ROLLBACK; DROP ROLE IF EXISTS reader');
    await other.close();
  }
});

test('a session that keeps a restored database from its name says nothing of the backup', async () => {
  const role = 'mover';
  await original.sql(`CREATE ROLE ${role}; CREATE ROLE viewer`);
  await original.sql(`CREATE DATABASE moved OWNER ${role}`);
  await sqlIn(
    'moved',
    `SET ROLE ${role}; CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS a; GRANT SELECT ON s.t TO viewer`,
  );
  await given.sql(`CREATE ROLE ${role} LOGIN CREATEDB; CREATE ROLE viewer`);
  await using storage = await fileStorage();
  await succeed(['backup'], { ...storage.env, DATABASE_URL: urlIn('moved') });
  const store = new FileStore({ root: storage.path, clock: systemClock, random: systemRandom });
  const other = await connect({ ...given.connection, database: 'postgres' }, { applicationName: 'other' });
  // The load waits at its GRANT until it is known whether the role stays.
  await other.query('BEGIN; DROP ROLE viewer');
  const drilled = drillIn(store, work, {
    scratch: { kind: 'given', connection: { ...given.connection, user: role } },
  }).catch((error: unknown) => error);
  const loading = `from pg_stat_activity where datname ~ '^pgark_drill_.*_restoring_' and wait_event_type = 'Lock'`;
  await given.until(`exists (select ${loading})`);
  const [found] = await given.sql<{ database: string }>(`select datname as database ${loading}`);
  const watcher = await connect(
    { ...given.connection, database: found?.database ?? '' },
    { applicationName: 'watcher' },
  );
  try {
    await other.query('ROLLBACK');
    expect(await drilled).toMatchObject({
      code: 'drill-impossible',
      message: expect.stringMatching(/cannot be tried here: database "pgark_drill_.*" is in use/),
      hint: expect.stringContaining('superuser'),
    });
    expect(await proofsIn(store)).toEqual([]);
  } finally {
    await watcher.close();
    await other.close();
  }
});

test('a drill by a role that sees what policies let it see compares all rows', async () => {
  await using storage = await fileStorage();
  await original.sql('CREATE ROLE keeper');
  await original.sql('CREATE DATABASE forced OWNER keeper');
  await sqlIn(
    'forced',
    `SET ROLE keeper; CREATE SCHEMA kept; CREATE TABLE kept.t AS SELECT generate_series(1, 100) AS a;
     ALTER TABLE kept.t ENABLE ROW LEVEL SECURITY; ALTER TABLE kept.t FORCE ROW LEVEL SECURITY;
     CREATE POLICY few ON kept.t USING (a < 10)`,
  );
  await given.sql('CREATE ROLE driller LOGIN CREATEDB CREATEROLE');
  const env = { ...storage.env, DATABASE_URL: urlIn('forced') };
  await succeed(['backup', '--format', 'directory'], env);
  const url = new URL(given.url);
  url.username = 'driller';
  const { stdout } = await succeed(['drill', '--to-url', url.href], env);
  expect(stdout).toMatch(/100 rows/);
  await given.sql('DROP ROLE driller');
});

test.each(['plain', 'directory'])(
  'a tablespace that the given server lacks says nothing of a %s backup',
  async (format) => {
    await using storage = await fileStorage();
    const env = { ...storage.env, DATABASE_URL: original.url };
    await succeed(['backup', '--format', format], env);
    expectFailure(await runPgark(['drill', '--to-url', given.url], { env }), {
      exit: 1,
      message: /the server does not have these tablespaces: apart/,
      hint: /CREATE TABLESPACE/,
    });
    expect(await proofsIn(new FileStore({ root: storage.path, clock: systemClock, random: systemRandom }))).toEqual([]);
    const { storages } = await pgarkJson<{ storages: { backups: { proofs: unknown }[] }[] }>(['list'], env);
    expect(storages[0]?.backups[0]?.proofs).toEqual({});
  },
);
