import path from 'node:path';
import { escapeIdentifier } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compareFingerprints, type Fingerprint, fingerprintDatabase } from '../../src/demo/fingerprint.ts';
import { recordWhenFinished } from '../compatibility/facts.ts';
import { runProgram } from '../support/cli.ts';
import { fileStorage, type TestStorage } from '../support/storage.ts';
import { matrixSql, ROLES_SQL } from './matrix-database.ts';
import { done, factsOf, pgark } from './matrix-place.ts';
import { type MatrixClient, type MatrixServer, readMatrixFolders, startMatrixServer } from './matrix-servers.ts';

const folders = await readMatrixFolders();
const majors = [...folders.servers.keys()];
const clients = [...folders.clients.values()];
const newest = clients.at(-1);
if (newest === undefined) throw new Error('no client');

/** What dumps a server: the client of its own version where there is one, and the newest. */
function dumpersOf(major: number): readonly MatrixClient[] {
  const fit = clients.filter((client) => client.major >= major);
  return [...new Set([fit[0], fit.at(-1)].filter((client) => client !== undefined))];
}

/** What loads with the same versions: psql of the dumping client, or the newest where that one may not. */
function loaderFor(dumper: MatrixClient): MatrixClient {
  return dumper.loads ? dumper : (newest ?? dumper);
}

const pairs = majors.flatMap((major) => dumpersOf(major).map((client) => [major, client.major] as const));
const storages = new Map<string, TestStorage>();
const servers = new Map<number, MatrixServer>();

function serverOf(major: number): MatrixServer {
  const server = servers.get(major);
  if (server === undefined) throw new Error(`PostgreSQL ${major} was not started`);
  return server;
}

/** Writes down what comes of the running test. */
function recordPair(server: number, client: number, outcome: 'yes' | 'refused'): void {
  const versions = { server: serverOf(server).version, client: clientOf(client).version };
  recordWhenFinished('versions', { kind: 'pair', ...versions, outcome });
}

function recordJourney([from, by, to]: readonly [number, number, number], outcome: 'yes' | 'warned'): void {
  const versions = { server: serverOf(from).version, client: clientOf(by).version, target: serverOf(to).version };
  recordWhenFinished('versions', { kind: 'journey', ...versions, outcome });
}

function clientOf(major: number): MatrixClient {
  const client = folders.clients.get(major);
  if (client === undefined) throw new Error(`no client of version ${major}`);
  return client;
}

beforeAll(async () => {
  for (const [major, binDir] of folders.servers) {
    const server = await startMatrixServer(major, binDir);
    servers.set(major, server);
    await server.query(ROLES_SQL);
  }
  for (const [server, client] of pairs) storages.set(`${server} ${client}`, await fileStorage());
}, 300_000);

afterAll(async () => {
  for (const each of [...servers.values(), ...storages.values()]) await each[Symbol.asyncDispose]();
});

/** The SQL text by one and the same pg_dump, without what differs from run to run. */
async function dumpOf(server: MatrixServer, database: string): Promise<string> {
  const { binDir } = dumpersOf(server.major)[0] ?? { binDir: '' };
  const result = await runProgram(path.join(binDir, 'pg_dump'), ['--no-password'], {
    env: server.environment(database),
  });
  expect(result).toMatchObject({ exitCode: 0 });
  expect(result.stdout).toContain('PostgreSQL database dump complete');
  return result.stdout.replaceAll(/^\\(un)?restrict .*$/gm, '');
}

async function fingerprintOf(server: MatrixServer, database: string): Promise<Fingerprint> {
  return server.withClient(database, fingerprintDatabase);
}

/** pg_dump before 15 says nothing of the comment on schema public. */
function differences(before: Fingerprint, after: Fingerprint, dumpedBy: number): string[] {
  const all = compareFingerprints(before, after);
  return dumpedBy >= 15 ? all : all.filter((line) => !line.startsWith('comment on schema public differs'));
}

/** A subscription, or being a template as the original is, would keep it from being dropped. */
async function dropCopy(server: MatrixServer, copy: string): Promise<void> {
  await server.query('ALTER SUBSCRIPTION "sub s" SET (slot_name = NONE)', copy);
  await server.query('DROP SUBSCRIPTION "sub s"', copy);
  await server.query(`ALTER DATABASE ${escapeIdentifier(copy)} IS_TEMPLATE false`);
  await server.query(`DROP DATABASE ${escapeIdentifier(copy)}`);
}

const SETTINGS = (name: string): string => `
  ALTER DATABASE ${name} OWNER TO matrix_owner; REVOKE ALL ON DATABASE ${name} FROM PUBLIC;
  GRANT CONNECT ON DATABASE ${name} TO matrix_other WITH GRANT OPTION;
  ALTER DATABASE ${name} CONNECTION LIMIT 17; ALTER DATABASE ${name} IS_TEMPLATE true; COMMENT ON DATABASE ${name} IS 'it''s; here';
  ALTER DATABASE ${name} SET search_path TO "we,ird", public; ALTER ROLE matrix_other IN DATABASE ${name} SET work_mem TO '8MB'`;

describe('a server and a client', { timeout: 300_000 }, () => {
  test.each(pairs)('PostgreSQL %i is backed up and restored, also in place, with clients of %i', async (major, by) => {
    recordPair(major, by, 'yes');
    const server = serverOf(major);
    const [dumper, loader] = [clientOf(by), loaderFor(clientOf(by))];
    const storage = storages.get(`${major} ${by}`);
    expect(storage).toBeDefined();
    if (storage === undefined) return;
    const database = `mat"rix 'Ö ${by}`;
    const copy = `a copy ${by}`;
    const place = { server, database, storage };
    await server.createDatabase(database);
    await server.query(matrixSql(major), database);
    await server.query(SETTINGS(escapeIdentifier(database)));
    const [dump, content, facts] = [
      await dumpOf(server, database),
      await fingerprintOf(server, database),
      await factsOf(server, database),
    ];

    expect((await done(place, dumper, ['doctor'])).stdout).toContain(dumper.version);
    await done(place, dumper, ['backup']);
    await done(place, dumper, ['verify']);
    await done(place, loader, ['restore', 'latest', '--to-db', copy]);
    expect(differences(content, await fingerprintOf(server, copy), by)).toEqual([]);
    expect(await dumpOf(server, copy)).toBe(dump);
    await dropCopy(server, copy);

    await server.query('DROP TABLE m.typed, lines; DELETE FROM huge; INSERT INTO m.guarded VALUES (2)', database);
    await done(place, loader, ['restore', 'latest', '--in-place', '--yes', database]);
    expect(differences(content, await fingerprintOf(server, database), by)).toEqual([]);
    expect(await dumpOf(server, database)).toBe(dump);
    expect(await factsOf(server, database)).toEqual(facts);
  });
});

/**
 * Versions tell the same view in other words, and bring extensions with other members. 17 brought the right to maintain a
 * table, 18 names of constraints for NOT NULL.
 */
function differencesAcross(before: Fingerprint, after: Fingerprint, dumpedBy: number): string[] {
  return differences(before, after, dumpedBy).filter(
    (line) => !/^(view|routine|extension) |^access to .*arwdDxtm|^constraint .*_not_null"? of .* is new$/.test(line),
  );
}

const journeys = pairs.flatMap(([from, by]) => majors.filter((to) => to !== from).map((to) => [from, by, to] as const));

describe('a backup of one version', { timeout: 300_000 }, () => {
  test.each(journeys.filter(([from, , to]) => to > from))(
    'PostgreSQL %i, dumped by %i, is restored into %i',
    async (from, by, to) => {
      recordJourney([from, by, to], 'yes');
      const [source, target] = [serverOf(from), serverOf(to)];
      const storage = storages.get(`${from} ${by}`);
      if (storage === undefined || newest === undefined) throw new Error('no backup');
      const database = `mat"rix 'Ö ${by}`;
      const copy = `from ${from} by ${by}`;
      await done({ server: target, database: 'postgres', storage }, newest, [
        'restore',
        database,
        'latest',
        '--to-url',
        target.url(copy),
      ]);
      expect(differencesAcross(await fingerprintOf(source, database), await fingerprintOf(target, copy), by)).toEqual(
        [],
      );
      await dropCopy(target, copy);
    },
  );

  test.each(journeys.filter(([from, , to]) => to < from))(
    'PostgreSQL %i, dumped by %i, is loaded into %i whole or not at all, with a warning',
    async (from, by, to) => {
      recordJourney([from, by, to], 'warned');
      const target = serverOf(to);
      const storage = storages.get(`${from} ${by}`);
      if (storage === undefined || newest === undefined) throw new Error('no backup');
      const database = `mat"rix 'Ö ${by}`;
      const copy = `from ${from} by ${by}`;
      const result = await pgark({ server: target, database: 'postgres', storage }, newest, [
        'restore',
        database,
        'latest',
        '--to-url',
        target.url(copy),
      ]);
      expect(result.stderr).toContain(`is of PostgreSQL ${from}, and the target is ${to}`);
      expect(result.exitCode).toBe(1);
      expect(await target.query(`SELECT datname FROM pg_database WHERE datname LIKE 'from %'`)).toEqual([]);
    },
  );
});

describe('an archive of pg_dump -Fc', { timeout: 300_000 }, () => {
  test.each(pairs)('of PostgreSQL %i by %i is loaded into the same server and into the newest', async (major, by) => {
    const [source, dumper] = [serverOf(major), clientOf(by)];
    const newestServer = serverOf(majors.at(-1) ?? major);
    if (newest === undefined) throw new Error('no client');
    const database = `mat"rix 'Ö ${by}`;
    await using storage = await fileStorage();
    const made = await runProgram(
      path.join(dumper.binDir, 'pg_dump'),
      ['--no-password', '-Fc', '-f', path.join(storage.path, 'theirs.dump')],
      { env: source.environment(database) },
    );
    expect(made).toMatchObject({ exitCode: 0 });
    for (const target of new Set([source, newestServer])) {
      const copy = `archive ${major} by ${by}`;
      const place = { server: target, database: 'postgres', storage };
      for (const loader of new Set([loaderFor(dumper), newest])) {
        // Its pg_restore is of the archive's version or a newer one, and not older than the target.
        if (loader.major < target.major) continue;
        await done(place, loader, ['restore', 'theirs.dump', '--to-db', copy, '--no-analyze']);
        const [before, after] = [await fingerprintOf(source, database), await fingerprintOf(target, copy)];
        expect((target === source ? differences : differencesAcross)(before, after, by)).toEqual([]);
        await dropCopy(target, copy);
      }
    }
  });
});

describe('a client that is too old', { timeout: 300_000 }, () => {
  test.each(
    majors.flatMap((major) =>
      clients.filter((client) => client.major < major).map(({ major: by }) => [major, by] as const),
    ),
  )('for PostgreSQL %i (%i) is refused before anything is done', async (major, by) => {
    recordPair(major, by, 'refused');
    await using storage = await fileStorage();
    const place = { server: serverOf(major), database: 'postgres', storage };
    const result = await pgark(place, clientOf(by), ['backup']);
    expect(result.exitCode).toBe(1);
    expect(result.stderr).toContain(
      `the server is PostgreSQL ${major}, and the newest pg_dump here is of version ${by}`,
    );
    expect(result.stderr).toContain(`install postgresql-client-${major} or newer`);
    expect((await storage.keys()).filter((key) => !key.startsWith('.pgark/runs/'))).toEqual([]);
    expect((await pgark(place, clientOf(by), ['doctor'])).exitCode).toBe(1);
  });
});
