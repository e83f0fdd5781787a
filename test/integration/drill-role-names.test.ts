import { writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { connect } from '../../src/postgres/client/connect.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import { expectFailure, pgarkJson, succeed } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { proofsIn, workFolder } from '../support/drills.ts';
import { makeTempDirectory } from '../support/temp.ts';

/** A server in UTF-8, in which databases of other encodings are made, and one that drills are given. */
let original: Cluster;
let given: Cluster;

beforeAll(async () => {
  original = await Cluster.start();
  given = await Cluster.start();
});
afterAll(async () => {
  await given[Symbol.asyncDispose]();
  await original[Symbol.asyncDispose]();
});

function urlIn(cluster: Cluster, database: string): string {
  const url = new URL(cluster.url);
  url.pathname = `/${database}`;
  return url.href;
}

async function sqlIn(cluster: Cluster, database: string, text: string): Promise<void> {
  const session = await connect({ ...cluster.connection, database }, { applicationName: 'test' });
  try {
    await session.query(text);
  } finally {
    await session.close();
  }
}

async function makeDatabase(cluster: Cluster, name: string, encoding: string): Promise<void> {
  await cluster.sql(`CREATE DATABASE ${name} TEMPLATE template0 ENCODING '${encoding}' LOCALE 'C'`);
}

/**
 * A backup of a database of the original, with what was changed there since the roles of its server were stored, by way of the
 * database that is asked.
 */
async function backedUp(database: string, format: string, since: string, asked = database) {
  const directory = await makeTempDirectory();
  const file = directory.join('pgark.yaml');
  const env = { PGARK_CONFIG: file };
  const backup = async (globals: string) => {
    const configuration = {
      version: 1,
      storages: { local: { type: 'file', path: directory.join('backups') } },
      databases: { shop: { url: urlIn(original, asked), databases: [database], globals, jobs: { all: { format } } } },
    };
    await writeFile(file, JSON.stringify(configuration), { mode: 0o600 });
    await succeed(['backup'], env);
  };
  await backup('auto');
  await sqlIn(original, database, since);
  await backup('none');
  const store = new FileStore({ root: directory.join('backups'), clock: systemClock, random: systemRandom });
  return { env, store, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

test('a role of the server whose name the encoding of the database does not have is left out', async () => {
  await using work = await workFolder();
  await original.sql('CREATE ROLE "Łukasz"');
  await makeDatabase(original, 'western', 'LATIN1');
  await sqlIn(original, 'western', 'CREATE TABLE t AS SELECT 1 AS a');
  // In UTF-8, in which it can be read; roles that the others make could not.
  await using backup = await backedUp('western', 'directory', 'SELECT 1', 'postgres');
  const drilled = await pgarkJson(['drill', '--work-dir', work.path], backup.env);
  expect(drilled).toMatchObject({ state: 'passed' });
});

/** A function that finds its table by the search path, which a restore does not have. */
const DOES_NOT_RESTORE = `CREATE TABLE rates AS SELECT 2 AS rate;
  CREATE FUNCTION rated(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a * (SELECT rate FROM rates); END';
  CREATE TABLE t AS SELECT 1 AS a; CREATE INDEX ON t (rated(a))`;

test.each(['plain', 'directory'])(
  'a %s backup that does not restore is said to be one where roles cannot be made either',
  async (format) => {
    const name = `broken_${format}`;
    await makeDatabase(original, name, 'LATIN1');
    await sqlIn(original, name, DOES_NOT_RESTORE);
    const role = `"jörg ${format}"`;
    await using backup = await backedUp(name, format, `CREATE ROLE ${role}; GRANT SELECT ON t TO ${role}`);
    const drilled = await runPgark(['drill', '--to-url', urlIn(given, 'postgres')], { env: backup.env });
    expectFailure(drilled, { exit: 20, message: /does not restore: .*"rates" does not exist/, hint: /./ });
    expect(await proofsIn(backup.store)).toHaveLength(1);
  },
);

test('a database without an encoding is drilled on a server in UTF-8, with the roles that it names', async () => {
  await makeDatabase(original, 'bytes', 'SQL_ASCII');
  await sqlIn(original, 'bytes', 'CREATE TABLE t AS SELECT 1 AS a');
  await using backup = await backedUp('bytes', 'plain', 'CREATE ROLE "grün"; GRANT SELECT ON t TO "grün"');
  const drilled = await pgarkJson(['drill', '--to-url', urlIn(given, 'postgres')], backup.env);
  expect(drilled).toMatchObject({ state: 'passed' });
});

test('roles that the given server has by the bytes of their names need not be made', async () => {
  await makeDatabase(original, 'known', 'LATIN1');
  await makeDatabase(given, 'known', 'LATIN1');
  await sqlIn(original, 'known', 'CREATE TABLE t AS SELECT 1 AS a');
  await sqlIn(given, 'known', 'CREATE ROLE "bär"');
  const since = 'CREATE ROLE "bär"; CREATE ROLE ascii; GRANT SELECT ON t TO "bär"; GRANT SELECT ON t TO ascii';
  await using backup = await backedUp('known', 'plain', since);
  const drilled = await pgarkJson(['drill', '--to-url', urlIn(given, 'postgres')], backup.env);
  expect(drilled).toMatchObject({ state: 'passed' });
});
