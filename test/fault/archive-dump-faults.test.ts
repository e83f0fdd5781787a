import { expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { PgarkError } from '../../src/common/errors.ts';
import type { BackupDestination } from '../../src/operations/backup.ts';
import { rowCountsOf, warningsTo } from '../support/archives.ts';
import { filler, untilActivity } from '../support/backups.ts';
import {
  backUp,
  backupsIn,
  errorOf,
  fileDestination,
  keysOf,
  outcomesOf,
  recordsIn,
  s3Destination,
} from '../support/destinations.ts';
import { postgresFacts } from '../support/facts.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

const IN_PIECES = { format: 'directory', pieceBytes: 256 * 1024, jobs: 3 } as const;
const ROWS = 20_000;
const ROWS_SQL = `CREATE TABLE data AS SELECT n, repeat(md5(n::text), 8) AS text FROM generate_series(1, ${ROWS}) n;`;
const CLEAN = { leftovers: [] };

/** No backup, no object, no intent, and a record that says why. */
async function expectNothing(destination: BackupDestination['store'], code: string): Promise<void> {
  expect(await backupsIn(destination)).toEqual({ count: 0, ...CLEAN });
  expect((await keysOf(destination)).filter((key) => key.startsWith('shop/'))).toEqual([]);
  expect((await recordsIn(destination)).at(-1)).toMatchObject({ state: 'failed', error: { code } });
}

/** Ends the sessions of the dump that the condition names, once there are some; says how many. */
async function endSessions(database: TestDatabase, condition: string): Promise<number> {
  for (;;) {
    const ended = await database.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'pgark backup %' AND ${condition}`,
    );
    if (ended.length > 0) return ended.length;
  }
}

test('a connection that breaks in the middle of a piece costs that piece alone', async () => {
  await using database = await createDatabase({ sql: filler(24) });
  await using place = await fileDestination('place');
  await using postgres = await startTcpProxy(postgresFacts(), { asTaken: true });
  const warnings: string[] = [];
  const logger = warningsTo(warnings);
  // More than pg_dump takes, which is ended behind its table of contents, and more than lies in the sockets' buffers.
  const held = postgres.holdAfter(12 * MIB);
  const running = backUp(database, [place], { format: 'directory', jobs: 2, port: postgres.port, logger });
  (await held).cut();
  expect(await rowCountsOf(await running, place.store)).toEqual({ 'public.filler': 24 * 32 });
  expect(warnings).toContain('dump.piece_retried');
  expect((await backupsIn(place.store)).leftovers).toEqual([]);
});

test('without the session that holds the snapshot nothing is kept', async () => {
  await using database = await createDatabase({ sql: ROWS_SQL });
  await using place = await fileDestination('place');
  let ended: Promise<number> | undefined;
  const store = new FaultyStore(place.store, {
    before: async ({ method, key }) => {
      if (method !== 'putStream' || !key.includes('.dat')) return;
      ended ??= endSessions(database, `state = 'idle in transaction'`);
      await ended;
    },
  });
  const error = await errorOf(
    backUp(database, [{ destination: { name: 'place', store, needsDelete: false } }], IN_PIECES),
  );
  expect(error).toMatchObject({
    code: 'postgres-unreachable',
    message: expect.stringContaining('the connection that holds the snapshot'),
  });
  await expectNothing(place.store, 'postgres-unreachable');
});

test('a table that somebody waits for is read by the session that has its lock', async () => {
  await using database = await createDatabase({ sql: `${ROWS_SQL} CREATE TABLE small AS SELECT 1 AS one;` });
  await using place = await fileDestination('place');
  const waiters: Promise<unknown>[] = [];
  const clients = await Promise.all([database.connect(), database.connect()]);
  const store = new FaultyStore(place.store, {
    before: async ({ method, key }) => {
      if (method !== 'putStream' || waiters.length > 0 || !key.includes('.dat')) return;
      waiters.push(
        ...clients.map(async (client, index) => {
          await client.query(`ALTER TABLE ${index === 0 ? 'data' : 'small'} ADD COLUMN added int`);
          await client.end();
        }),
      );
      while ((await waitingFor(database)) < 2);
    },
  });
  const destination = { destination: { name: 'place', store, needsDelete: false } };
  expect(await rowCountsOf(await backUp(database, [destination], IN_PIECES), place.store)).toEqual({
    'public.data': ROWS,
    'public.small': 1,
  });
  await Promise.all(waiters);
});

async function waitingFor(database: TestDatabase): Promise<number> {
  const rows = await database.query(
    `SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'ALTER TABLE%' AND wait_event_type = 'Lock'`,
  );
  return rows.length;
}

test('a storage that refuses a file drops out alone, and leaves nothing', async () => {
  await using database = await createDatabase({ sql: ROWS_SQL });
  await using bucket = await s3Destination('bucket');
  await using folder = await fileDestination('folder');
  let puts = 0;
  bucket.proxy.setFaults(({ operation, url }) => {
    if (operation !== 'PutObject' || !url.pathname.includes('.dat')) return undefined;
    puts += 1;
    return puts > 3 ? { kind: 'answer', status: 403, code: 'AccessDenied' } : undefined;
  });
  const outcomes = outcomesOf(await backUp(database, [bucket, folder], IN_PIECES));
  expect(outcomes['bucket']?.error?.code).toBe('store-access-denied');
  expect(outcomes['folder']?.error).toBeUndefined();
  await expectNothing(bucket.store, 'store-access-denied');
});

/** A store that has taken all of the first file of rows, and does not say so before the second one begins. */
function slowToConfirm(store: BackupDestination['store'], confirm: () => Promise<void>): FaultyStore {
  const second = Promise.withResolvers<void>();
  const seen = new Set<string>();
  const isData = ({ method, key }: { method: string; key: string }) => method === 'putStream' && key.includes('.dat');
  return new FaultyStore(store, {
    before: (call) => {
      if (isData(call) && seen.add(call.key).size === 2) second.resolve();
    },
    after: async (call) => {
      if (!isData(call) || call.key !== [...seen][0]) return;
      await second.promise;
      await confirm();
    },
  });
}

test('while the end of a file is stored, the session reads the next piece', async () => {
  await using database = await createDatabase({ sql: ROWS_SQL });
  await using place = await fileDestination('place');
  const store = slowToConfirm(place.store, async () => {});
  const destination = { destination: { name: 'place', store, needsDelete: false } };
  const outcome = await backUp(database, [destination], { ...IN_PIECES, jobs: 1 });
  expect(await rowCountsOf(outcome, place.store)).toEqual({ 'public.data': ROWS });
});

test('a storage that fails at the end of a file, while the next piece is read, has no backup', async () => {
  await using database = await createDatabase({ sql: ROWS_SQL });
  await using place = await fileDestination('place');
  const store = slowToConfirm(place.store, () => Promise.reject(new PgarkError('store-failed', 'it is full')));
  const destination = { destination: { name: 'place', store, needsDelete: false } };
  expect(await errorOf(backUp(database, [destination], { ...IN_PIECES, jobs: 1 }))).toMatchObject({
    code: 'store-failed',
  });
  await expectNothing(place.store, 'store-failed');
});

const fill = (table: string) => `INSERT INTO ${table} SELECT n, 'x' FROM generate_series(1, 100) n;`;
const make = (table: string) => `CREATE TABLE ${table} (n int, text text); ${fill(table)}`;

test.each<[what: string, before: readonly string[], change: string, after: readonly string[]]>([
  [
    'emptied and rewritten',
    ['emptied', 'rewritten'],
    `TRUNCATE emptied; ${fill('emptied')} ALTER TABLE rewritten ALTER COLUMN n TYPE bigint;`,
    ['emptied', 'rewritten'],
  ],
  [
    'replaced, dropped and made',
    ['first', 'replaced', 'swapped', 'dropped'],
    `LOCK TABLE first; DROP TABLE replaced; ${make('replaced')} ALTER TABLE swapped RENAME TO other; ${make('swapped')}
     DROP TABLE other, dropped; ${make('made')}`,
    ['first', 'made', 'replaced', 'swapped'],
  ],
])('tables that are %s while the dump waits for them have all their rows', async (_what, before, change, after) => {
  await using database = await createDatabase({ sql: before.map(make).join('') });
  await using place = await fileDestination('place');
  const client = await database.connect();
  await client.query(`BEGIN; ${change}`);
  const running = backUp(database, [place], IN_PIECES);
  await untilActivity(database, `application_name LIKE 'pgark backup %' AND wait_event_type = 'Lock'`);
  await client.query('COMMIT');
  await client.end();
  expect(await rowCountsOf(await running, place.store)).toEqual(
    Object.fromEntries(after.map((name) => [`public.${name}`, 100])),
  );
});
