import { createHash } from 'node:crypto';
import path from 'node:path';
import { escapeIdentifier } from 'pg';
import { expect, vi } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { Secret } from '../../src/common/secret.ts';
import type { ArchiveContents } from '../../src/formats/directory/contents.ts';
import { ArchiveObjects } from '../../src/formats/directory/read-archive.ts';
import { backup } from '../../src/operations/backup.ts';
import { operationContext } from '../../src/operations/context.ts';
import { restore } from '../../src/operations/restore.ts';
import type { ConnectionParameters } from '../../src/postgres/client/connection-parameters.ts';
import { dataFolderOf } from '../../src/repository/repository.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { NO_KEYS } from '../support/archive-restoring.ts';
import { runProgram } from '../support/cli.ts';
import { outcomesOf } from '../support/destinations.ts';
import type { MatrixClient, MatrixServer } from './matrix-servers.ts';

const JOBS = 4;
const NEVER = new AbortController().signal;
/** The first pg_restore that reads zstd. */
const ZSTD_SINCE = 16;

/** How stock tools restore the folder of an archive. */
export const stockWays = ['serial', 'one job', 'four jobs', 'as SQL'] as const;
type StockWay = (typeof stockWays)[number];

export interface BackedUp {
  readonly store: ObjectStore;
  /** Within the store's directory. */
  readonly folder: string;
  readonly contents: ArchiveContents;
}

function connectionOf(server: MatrixServer, database: string): ConnectionParameters {
  const { PGHOST = '', PGPORT, PGUSER = '', PGPASSWORD = '' } = server.environment(database);
  const password = new Secret(PGPASSWORD);
  return { host: PGHOST, port: Number(PGPORT), user: PGUSER, password, database, sslMode: 'disable' };
}

/** A backup of format directory into a folder, by the library and the programs of one client. */
export async function backUpOf(
  server: MatrixServer,
  database: string,
  { client, root, pieceBytes }: { readonly client: MatrixClient; readonly root: string; readonly pieceBytes: number },
): Promise<BackedUp> {
  vi.stubEnv('PGARK_CLIENT_DIR', client.binDir);
  const store = new FileStore({ root, clock: systemClock, random: systemRandom });
  const outcome = await backup(
    {
      source: 'matrix',
      connection: connectionOf(server, database),
      destinations: [{ name: 'place', store, needsDelete: false }],
      seal: { compression: { algorithm: client.major >= ZSTD_SINCE ? 'zstd' : 'gzip', level: 1 } },
      nameTemplate: '{database}_{id}',
      excludeTableData: [],
      leaseTermMs: 60_000,
      readBack: false,
      dryRun: false,
      format: 'directory',
      pieceBytes,
      jobs: JOBS,
    },
    operationContext(),
  );
  const { manifest } = outcomesOf(outcome)['place'] ?? {};
  if (manifest === undefined) throw new Error('nothing was committed');
  const contents = await new ArchiveObjects(manifest, { store, keys: NO_KEYS, signal: NEVER }).contents();
  return { store, folder: dataFolderOf(manifest) ?? '', contents };
}

/** Into a database that does not exist yet, by the library. */
export async function restoreOwn(
  server: MatrixServer,
  copy: string,
  { loader, backedUp }: { readonly loader: MatrixClient; readonly backedUp: BackedUp },
): Promise<void> {
  vi.stubEnv('PGARK_CLIENT_DIR', loader.binDir);
  await restore(
    {
      store: backedUp.store,
      filter: {},
      selector: { kind: 'latest' },
      target: { kind: 'database', connection: connectionOf(server, copy), clean: false },
      keys: NO_KEYS,
      verifyFirst: undefined,
      analyse: false,
      planOnly: false,
      jobs: JOBS,
    },
    operationContext(),
  );
}

/**
 * Into a new database, by stock tools alone; gives back the server's errors. Those of a client that is out of step with the
 * server go on after errors, of which there are some: they tell the server of what it does not know.
 */
export async function restoreStock(
  way: StockWay,
  server: MatrixServer,
  copy: string,
  { client, folder }: { readonly client: MatrixClient; readonly folder: string },
): Promise<readonly string[]> {
  await server.createDatabase(copy);
  const isInStep = client.major === server.major;
  const strict = isInStep ? '--exit-on-error' : '';
  const commands: Readonly<Record<StockWay, string>> = {
    serial: `pg_restore ${strict} --dbname="" .`,
    'one job': `pg_restore ${strict} --jobs=1 --dbname="" .`,
    'four jobs': `pg_restore ${strict} --jobs=4 --dbname="" .`,
    'as SQL': `pg_restore --file=- . | psql -X -q -v ON_ERROR_STOP=${isInStep ? 1 : 0} > /dev/null`,
  };
  const env = { ...server.environment(copy), PATH: `${client.binDir}:${process.env['PATH'] ?? ''}` };
  const script = `test ! -e SHA256SUMS || sha256sum --check --strict --quiet SHA256SUMS; ${commands[way]}`;
  const args = ['--norc', '-euo', 'pipefail', '-c', script];
  const { exitCode, stderr } = await runProgram('bash', args, { cwd: folder, env });
  const errors = [...stderr.matchAll(/ERROR: .*/g)].map(([error]) => error);
  const isFailed = exitCode !== 0 || /pg_restore: error/.test(stderr);
  const isExplained = !isInStep && errors.length > 0;
  expect(isFailed && !isExplained, `${way}, exit ${exitCode}: ${stderr.slice(-2_000)}`).toBe(false);
  return [...new Set(errors)].filter((error) => !error.includes('"transaction_timeout"')).sort();
}

/** Into a new database, by stock tools, and not of one of our backups; gives back the server's errors. */
export async function copyByStock(
  server: MatrixServer,
  copy: string,
  { client, database, scratch }: { readonly client: MatrixClient; readonly database: string; readonly scratch: string },
): Promise<readonly string[]> {
  const args = ['--format=directory', `--file=${scratch}`, '--compress=0'];
  const env = server.environment(database);
  expect(await runProgram(path.join(client.binDir, 'pg_dump'), args, { env })).toMatchObject({ exitCode: 0 });
  return restoreStock('serial', server, copy, { client, folder: scratch });
}

/** By which some servers tell the versions of a column apart; a pg_dump that does not know it takes it for an option (adr/0023). */
const COLUMN_VERSION = /\bpg_attver=\d+/g;

/**
 * What pg_dump says of a database, whatever the order of its rows: sessions that load at once mix them; and whatever the
 * versions of its columns, which are another column's in each copy.
 */
export async function linesOf(
  server: MatrixServer,
  database: string,
  client: MatrixClient,
): Promise<readonly string[]> {
  const result = await runProgram(path.join(client.binDir, 'pg_dump'), ['--no-password', '--encoding=UTF8'], {
    env: server.environment(database),
  });
  expect(result).toMatchObject({ exitCode: 0 });
  const text = result.stdout.replaceAll(COLUMN_VERSION, 'pg_attver=N');
  const lines = text.split('\n').filter((line) => !/^\\(un)?restrict /.test(line));
  expect(lines).toContain('-- PostgreSQL database dump complete');
  return lines.sort();
}

const DIFFERENCES_MAX = 20;

/** Lines that only one of them has; some of them, if they are many. */
export function differencesOf(before: readonly string[], after: readonly string[]): readonly string[] {
  const digest = (lines: readonly string[]): string => createHash('sha256').update(lines.join('\n')).digest('hex');
  if (digest(before) === digest(after)) return [];
  const differences: string[] = [];
  let [left, right] = [0, 0];
  while ((left < before.length || right < after.length) && differences.length < DIFFERENCES_MAX) {
    const [one, other] = [before[left], after[right]];
    if (one === other) {
      left += 1;
      right += 1;
    } else if (other === undefined || (one !== undefined && one < other)) {
      differences.push(`- ${one?.slice(0, 300)}`);
      left += 1;
    } else {
      differences.push(`+ ${other.slice(0, 300)}`);
      right += 1;
    }
  }
  return differences;
}

/** Subscriptions would keep it from being dropped. */
export async function dropCopy(server: MatrixServer, copy: string): Promise<void> {
  const subscriptions = await server.query<{ name: string }>(
    'SELECT subname AS name FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()',
    copy,
  );
  for (const name of subscriptions.map((each) => escapeIdentifier(each.name))) {
    await server.query(`ALTER SUBSCRIPTION ${name} SET (slot_name = NONE)`, copy);
    await server.query(`DROP SUBSCRIPTION ${name}`, copy);
  }
  await server.query(`DROP DATABASE ${escapeIdentifier(copy)} WITH (FORCE)`);
}
