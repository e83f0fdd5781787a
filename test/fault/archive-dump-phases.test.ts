import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { PgarkError } from '../../src/common/errors.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { rowCountsOf, warningsTo } from '../support/archives.ts';
import { backUp, backupsIn, errorOf, keysOf } from '../support/destinations.ts';
import { FaultyStore, type StoreCall, type StoreFaults } from '../support/faulty-store.ts';
import { interruptPgDump } from '../support/interruptions.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

afterEach(() => vi.unstubAllEnvs());

const ROWS = 2000;
const IN_PIECES = { format: 'directory', pieceBytes: 256 * 1024, jobs: 2 } as const;
/** One for each kind of file, in the order in which they come. */
const FILES: readonly (readonly [what: string, name: RegExp])[] = [
  ['a piece of a table', /\.dat$/],
  ['a large object', /blob_\d+\.dat$/],
  ['the list of large objects', /blobs.*\.toc$/],
  ['the table of contents', /\/toc\.dat$/],
  ['the table of contents of pg_dump', /pg_dump\.toc$/],
  ['the list of contents', /contents\.json$/],
  ['the sums', /SHA256SUMS$/],
];

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase({
    sql: `CREATE TABLE data AS SELECT n, repeat(md5(n::text), 8) AS text FROM generate_series(1, ${ROWS}) n;
      SELECT lo_from_bytea(4711, convert_to(repeat('content', 20000), 'UTF8'));`,
  });
});
afterAll(() => database[Symbol.asyncDispose]());

const destinationOf = (store: ObjectStore) => ({ destination: { name: 'place', store, needsDelete: true } });
const isPut = ({ method }: StoreCall): boolean => method === 'putStream' || method === 'putSmall';

/** Each time that such a file is put: not made at all, or made and its answer lost. */
function refusing(name: RegExp, when: keyof StoreFaults, refused: string[]): StoreFaults {
  const refuse = (call: StoreCall): void => {
    if (!isPut(call) || !name.test(call.key)) return;
    refused.push(call.key);
    throw new PgarkError('store-access-denied', 'this is refused');
  };
  return { [when]: refuse };
}

const WHEN = ['before', 'after'] as const;

test.each(FILES.flatMap(([what, name]) => WHEN.map((when) => [what, when, name] as const)))(
  '%s that is refused %s it is stored gives no backup, and leaves nothing',
  async (_what, when, name) => {
    const memory = new MemoryStore();
    const refused: string[] = [];
    const store = new FaultyStore(memory, refusing(name, when, refused));
    const error = await errorOf(backUp(database, [destinationOf(store)], IN_PIECES));
    expect(error.code).toBe('store-access-denied');
    expect(refused).not.toEqual([]);
    expect(await backupsIn(memory)).toEqual({ count: 0, leftovers: [] });
    expect((await keysOf(memory)).filter((key) => key.startsWith('shop/'))).toEqual([]);
  },
);

test.each([
  ['before', 1],
  ['after', 2],
] as const)(
  'a manifest that is refused %s it is stored is told, and the next run makes an end',
  async (when, count) => {
    const memory = new MemoryStore();
    const store = new FaultyStore(memory, refusing(/^\.pgark\/backups\//, when, []));
    expect((await errorOf(backUp(database, [destinationOf(store)], IN_PIECES))).code).toBe('store-access-denied');
    await backUp(database, [destinationOf(memory)], IN_PIECES);
    expect(await backupsIn(memory)).toEqual({ count, leftovers: [] });
  },
);

const SESSIONS = `(SELECT pid, state, xact_start FROM pg_stat_activity
  WHERE datname = current_database() AND application_name LIKE 'pgark backup %' AND xact_start IS NOT NULL) AS s`;
/** The one that has exported the snapshot, when no other one reads. */
const END_LEADER = `SELECT pg_terminate_backend(pid) FROM ${SESSIONS} WHERE state = 'idle in transaction'`;
const END_READERS = `SELECT pg_terminate_backend(pid) FROM ${SESSIONS}
  WHERE xact_start > (SELECT min(xact_start) FROM ${SESSIONS})`;
const LOST = {
  code: 'postgres-unreachable',
  message: expect.stringContaining('the connection that holds the snapshot'),
};

test('the session with the snapshot that is ended before pg_dump begins gives no backup', async () => {
  await using directory = await makeTempDirectory();
  const memory = new MemoryStore();
  await interruptPgDump(directory.path, 1, END_LEADER);
  expect(await errorOf(backUp(database, [destinationOf(memory)], IN_PIECES))).toMatchObject(LOST);
  expect(await backupsIn(memory)).toEqual({ count: 0, leftovers: [] });
});

test('the session with the snapshot that is ended when all is read but one answer gives no backup', async () => {
  const memory = new MemoryStore();
  const ended: unknown[] = [];
  const store = new FaultyStore(memory, {
    after: async (call) => {
      if (isPut(call) && call.key.includes('blob_')) ended.push(...(await database.query(END_LEADER)));
    },
  });
  expect(await errorOf(backUp(database, [destinationOf(store)], { ...IN_PIECES, jobs: 1 }))).toMatchObject(LOST);
  expect(ended).not.toEqual([]);
  expect(await backupsIn(memory)).toEqual({ count: 0, leftovers: [] });
});

test('a session that is ended while it reads a large object is replaced', async () => {
  const memory = new MemoryStore();
  const warnings: string[] = [];
  let ended: unknown[] | undefined;
  const store = new FaultyStore(memory, {
    before: async (call) => {
      if (!isPut(call) || !call.key.includes('blob_') || ended !== undefined) return;
      ended = await database.query(END_READERS);
    },
  });
  const outcome = await backUp(database, [destinationOf(store)], {
    ...IN_PIECES,
    jobs: 1,
    logger: warningsTo(warnings),
  });
  expect({ ended: ended?.length, warnings }).toEqual({ ended: 1, warnings: ['dump.piece_retried'] });
  expect(await rowCountsOf(outcome, memory)).toEqual({ 'public.data': ROWS });
});
