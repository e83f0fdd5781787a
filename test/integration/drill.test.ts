import { describe, expect, test } from 'vitest';
import { Client } from 'pg';
import { createSampleDatabase } from '../../src/demo/sample-database.ts';
import { filePlace } from '../support/archive-restoring.ts';
import { fileDestination, backUp } from '../support/destinations.ts';
import { drillIn, proofsIn, workFolder } from '../support/drills.ts';
import { expectFailure, pgarkJson, fileStorage, succeed } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { postgresFacts } from '../support/facts.ts';
import { Secret } from '../../src/common/secret.ts';
import { operationContext } from '../../src/operations/context.ts';
import { checkAssertions } from '../../src/operations/drill/assertions.ts';
import { refuseMissingExtensions } from '../../src/operations/drill/scratch-needs.ts';
import { connect } from '../../src/postgres/client/connect.ts';
import type { ConnectionParameters } from '../../src/postgres/client/connection-parameters.ts';
import { keys } from '../../src/repository/keys.ts';
import { Repository } from '../../src/repository/repository.ts';
import { findServerPrograms } from '../../src/postgres/server/server-programs.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { createDatabase, createRole, runAsSuperuser } from '../support/postgres.ts';
import { makeStockArchive } from '../support/stock-archive.ts';

const ARCHIVE = { format: 'directory', pieceBytes: 64 * 1024, jobs: 2 } as const;

describe('a drill', () => {
  test('restores the demonstration’s database out of an archive, compares every row, and leaves nothing behind', async () => {
    await using storage = await fileStorage();
    await using work = await workFolder();
    await using owner = await createRole();
    await using source = await createDatabase({ name: 'sample' });
    const client = new Client({ ...postgresFacts(), database: source.name });
    await client.connect();
    await createSampleDatabase(client, { scale: 0.002 });
    // Neither the owner nor who may read is known to a server that was just made.
    await client.query(`ALTER TABLE sales.order_item OWNER TO "${owner.user.replaceAll('"', '""')}"`);
    await client.end();
    const env = { ...storage.env, DATABASE_URL: source.url };
    await succeed(['backup', '--format', 'directory'], env);
    const drilled = await pgarkJson<Record<string, unknown>>(
      ['drill', '--work-dir', work.path, '--assert', 'select count(*) > 0 from sales.order_item'],
      env,
    );
    expect(drilled).toMatchObject({ state: 'passed', assertions: 1, compared: { by: 'hashes' } });
    await work.expectEmpty();
    const proofs = (await storage.keys()).filter((key) => key.includes('/proofs/'));
    expect(proofs).toHaveLength(1);
    const proof = JSON.parse((await storage.get(proofs[0] ?? '')).toString()) as Record<string, unknown>;
    expect(proof).toMatchObject({ kind: 'drill', passed: true, assertions: 1, compared: { by: 'hashes' } });
    const { runs } = await pgarkJson<{ runs: { kind: string; state: string }[] }>(['runs'], storage.env);
    expect(runs.map(({ kind, state }) => [kind, state])).toContainEqual(['drill', 'succeeded']);
    expect(runs.filter(({ kind }) => kind === 'restore')).toEqual([]);
  });

  test('takes the programs that load a dump from the folder that its server is from, where there are no others', async () => {
    await using storage = await fileStorage();
    await using work = await workFolder();
    await using none = await makeTempDirectory();
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    const env = { ...storage.env, DATABASE_URL: source.url };
    const binDir = await findServerPrograms();
    for (const format of ['plain', 'directory']) {
      await succeed(['backup', '--format', format], env);
      const argv = ['drill', '--work-dir', work.path, '--bin-dir', binDir];
      const drilled = await pgarkJson(argv, { ...env, PGARK_CLIENT_DIR: none.path });
      expect(drilled).toMatchObject({ state: 'passed', backup: { format } });
    }
  });

  test('fails where one row differs although every digest is right', async () => {
    await using place = await filePlace();
    await using work = await workFolder();
    await using source = await createDatabase({
      name: 'src',
      sql: `CREATE TABLE spoilt AS SELECT n, 'row ' || n AS text FROM generate_series(1, 500) n`,
    });
    // The rows that were recorded are others than those that were stored, as if one had been changed with all of its digests.
    await makeStockArchive(source, place.store, {
      falsify: ({ tables, ...rest }) => ({
        ...rest,
        tables: tables.map((table) => ({ ...table, hash: '0'.repeat(32) })),
      }),
    });
    await expect(drillIn(place.store, work)).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining('public.spoilt has 500 rows of hash'),
    });
    await work.expectEmpty();
    expect(await proofsIn(place.store)).toMatchObject([{ passed: false, error: { code: 'corrupt' } }]);
  });

  test('makes roles that nothing is recorded of, for a dump in SQL too, and loads once more where one turns out to be missing', async () => {
    await using place = await fileDestination('place');
    await using work = await workFolder();
    await using reader = await createRole();
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    await source.query(`GRANT SELECT ON t TO "${reader.user.replaceAll('"', '""')}"`);
    for (const format of [{ format: 'plain' }, ARCHIVE] as const) {
      await backUp(source, [place], format);
      const outcome = await drillIn(place.store, work, { assertions: [{ sql: 'select count(*) = 1 from t' }] });
      expect(outcome.manifest.format).toBe(format.format);
    }
    await work.expectEmpty();
  });

  test('makes no role of a user mapping for everybody, and says of a backup that does not load that it does not', async () => {
    await using storage = await fileStorage();
    await using work = await workFolder();
    await using source = await createDatabase({
      sql: `CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR PUBLIC SERVER s`,
    });
    const env = { ...storage.env, DATABASE_URL: source.url };
    const drill = ['drill', '--work-dir', work.path];
    for (const format of ['directory', 'plain']) {
      await succeed(['backup', '--format', format], env);
      expect(await pgarkJson(drill, env)).toMatchObject({ state: 'passed' });
    }
    // A dump's own search_path does not find it.
    await source.query(`CREATE TABLE other (a int);
      CREATE FUNCTION fits() RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) = 0 FROM other); END';
      CREATE TABLE t (a int CHECK (fits())); INSERT INTO t VALUES (1)`);
    await succeed(['backup', '--format', 'plain'], env);
    const failed = await runPgark(drill, { env });
    expectFailure(failed, { exit: 20, message: /relation "other" does not exist/, hint: /correct the cause/ });
  });

  test('takes assertions that hold in every row', async () => {
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 42 AS secret' });
    const fits = [
      { sql: 'select true -- all is well' },
      { sql: 'select secret from t;', min: 42, max: 42 },
      { sql: 'select secret from t', equals: 42 },
      { sql: `select 'a', false`, equals: 'a' },
      { sql: 'select a > 0 from generate_series(1, 3) a' },
    ];
    await checkAssertions(connectionOf(source.name), fits, how());
  });

  test('names an assertion that does not hold, has no rows or cannot be checked, and nothing of its rows', async () => {
    await using source = await createDatabase({
      name: 'src',
      sql: 'CREATE TABLE t AS SELECT 42 AS secret; CREATE SEQUENCE s',
    });
    const wrong = [
      [{ sql: 'select secret > 42 from t' }, 'does not hold: the result is not true'],
      [{ sql: 'select null::boolean' }, 'does not hold: the result is not true'],
      [{ sql: 'select a < 3 from generate_series(1, 3) a' }, 'does not hold: the result is not true'],
      [{ sql: 'select secret from t', min: 43 }, 'does not hold: the result is not at least 43'],
      [{ sql: `select ''`, max: 1 }, 'does not hold: the result is not at most 1'],
      [{ sql: 'select true where false' }, 'gave no row'],
      [{ sql: 'select nothing from nowhere' }, 'relation "nowhere" does not exist'],
      [{ sql: `select setval('s', 3) > 0` }, 'cannot execute setval() in a read-only transaction'],
      [{ sql: `select ('se' || 'cret')::int > 0` }, 'could not be checked: the server refused it with 22P02'],
    ] as const;
    for (const [assertion, why] of wrong) {
      const checking = checkAssertions(connectionOf(source.name), [assertion, { sql: 'select 1/0' }], how());
      await expect(checking).rejects.toMatchObject({
        code: 'drill-failed',
        exitCode: 20,
        message: expect.stringMatching(new RegExp(`the assertion \\(${escape(assertion.sql)}\\) .*${escape(why)}`)),
      });
    }
  });

  test('fails where an assertion does not hold', async () => {
    await using storage = await fileStorage();
    await using work = await workFolder();
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    const env = { ...storage.env, DATABASE_URL: source.url };
    await succeed(['backup', '--format', 'plain'], env);
    const failed = await runPgark(['drill', '--work-dir', work.path, '--assert', 'select a = 2 from t'], { env });
    expectFailure(failed, {
      exit: 20,
      message: /the assertion \(select a = 2 from t\) does not hold/,
      hint: /run it on/,
    });
    const { storages } = await pgarkJson<{ storages: { backups: { proofs: unknown }[] }[] }>(['list'], env);
    expect(storages[0]?.backups[0]?.proofs).toMatchObject({ drill: { passed: false } });
    await work.expectEmpty();
  });

  test('fails where the restore takes longer than it may', async () => {
    await using place = await fileDestination('place');
    await using work = await workFolder();
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    await backUp(source, [place], { format: 'plain' });
    await expect(drillIn(place.store, work, { restoreMsMax: 0 })).rejects.toMatchObject({
      code: 'drill-too-slow',
      exitCode: 20,
      message: expect.stringMatching(/restores, but took .*, and may take 0/),
    });
    await expect(drillIn(place.store, work, { limitMs: 1 })).rejects.toMatchObject({
      code: 'drill-too-slow',
      message: expect.stringContaining('was given up after'),
    });
    await work.expectEmpty();
    expect((await proofsIn(place.store)).slice(0, 1)).toMatchObject([
      { passed: false, restoreMs: expect.any(Number), error: { code: 'drill-too-slow' } },
    ]);
  });

  test('names all extensions that the server does not have', async () => {
    const { user, host, port, password } = postgresFacts();
    const connection = {
      user,
      host,
      port,
      password: new Secret(password),
      database: 'postgres',
      sslMode: 'disable',
    } as const;
    const session = await connect(connection, { applicationName: 'test' });
    try {
      await refuseMissingExtensions(session, ['plpgsql', 'citext']);
      await expect(refuseMissingExtensions(session, ['no_such', 'citext', 'nor_this'])).rejects.toMatchObject({
        code: 'drill-impossible',
        message: 'the scratch server does not have these extensions: no_such, nor_this',
        hint: expect.stringContaining('--to-url'),
      });
    } finally {
      await session.close();
    }
  });

  test('says what to install where there are no programs of the version that was backed up, and proves nothing', async () => {
    await using place = await filePlace();
    await using work = await workFolder();
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    const { id, ...manifest } = await makeStockArchive(source, place.store);
    const repository = new Repository(place.store, operationContext());
    const [stored] = (await repository.backups()).manifests;
    if (stored === undefined) throw new Error('there is no backup');
    await place.store.delete(keys.manifest(stored.source, stored.database.name, stored.id));
    await repository.commit({ ...stored, ...manifest, id, server: { ...manifest.server, versionNum: 990_001 } });
    await expect(drillIn(place.store, work)).rejects.toMatchObject({
      code: 'client-missing',
      message: expect.stringContaining('no server of PostgreSQL 99 is installed here'),
      hint: expect.stringMatching(/apt-get install postgresql-99.*--to-url/),
    });
    expect(await proofsIn(place.store)).toEqual([]);
    await work.expectEmpty();
  });

  test('goes into a database of its own on a server that is given, and drops it with the roles that it made', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    const env = { ...storage.env, DATABASE_URL: source.url };
    const reader = await createRole();
    await source.query(`GRANT SELECT ON t TO "${reader.user.replaceAll('"', '""')}"`);
    await succeed(['backup', '--format', 'directory'], env);
    await source.query(`REVOKE ALL ON t FROM "${reader.user.replaceAll('"', '""')}"`);
    await reader.drop();
    const id = '01k5zzzzzzzzzzzzzzzzzzzzzz';
    await runAsSuperuser(`CREATE DATABASE pgark_drill_${id}`);
    await succeed(['drill', '--to-url', source.url, '--assert', 'select a = 1 from t'], env);
    expect(await runAsSuperuser(`select datname from pg_database where datname ~ '^pgark_drill_'`)).toEqual([]);
    const roles = await runAsSuperuser(
      `select rolname from pg_roles where shobj_description(oid, 'pg_authid') ~ '^pgark drill of'`,
    );
    expect(roles).toEqual([]);
  });
});

function connectionOf(database: string): ConnectionParameters {
  const { password, ...server } = postgresFacts();
  return { ...server, password: new Secret(password), database, sslMode: 'disable' };
}

const how = () => ({ applicationName: 'test', signal: new AbortController().signal });

function escape(text: string): string {
  return text.replace(/;$/, '').replaceAll(/[()[\]{}.*+?^$|\\]/g, String.raw`\$&`);
}
