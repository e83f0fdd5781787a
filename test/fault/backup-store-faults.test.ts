import { describe, expect, test } from 'vitest';
import { PgarkError } from '../../src/common/errors.ts';
import { silentLogger } from '../../src/common/log.ts';
import { backup, type BackupRequest } from '../../src/operations/backup.ts';
import { operationContext } from '../../src/operations/context.ts';
import { verify } from '../../src/operations/verify.ts';
import { keys } from '../../src/repository/keys.ts';
import { Repository } from '../../src/repository/repository.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FaultyStore, type StoreCall, type StoreFaults } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { Secret } from '../../src/common/secret.ts';

const context = operationContext();
/** Calls of a backup are far fewer; a sweep that does not end is a defect. */
const CALLS_MAX = 200;
const LEASE_TERM_MS = 60_000;

function requestOf(database: TestDatabase, store: ObjectStore): BackupRequest {
  const { host, port, user, password } = postgresFacts();
  return {
    source: 'shop',
    connection: { host, port, user, password: new Secret(password), database: database.name, sslMode: 'disable' },
    destinations: [{ name: 'store', store, needsDelete: true }],
    seal: { compression: { algorithm: 'gzip', level: 1 } },
    nameTemplate: '{id}/{database}',
    excludeTableData: [],
    leaseTermMs: LEASE_TERM_MS,
    readBack: false,
    dryRun: false,
  };
}

/** Fails the call of this number: not made at all, or made and its answer lost. */
function failing(number: number, when: 'before' | 'after'): StoreFaults {
  const fail = (call: StoreCall): void => {
    if (call.number === number)
      throw new PgarkError('store-unreachable', `call ${number}, ${call.method}, was cut off`);
  };
  return { [when]: fail };
}

async function allOf(iterable: AsyncIterable<{ readonly key: string }>): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of iterable) found.push(key);
  return found;
}

/** Committed backups are whole, and beside them nothing of any run is left. */
async function expectSound(store: MemoryStore): Promise<number> {
  const repository = new Repository(store, context);
  const { manifests, damaged } = await repository.backups();
  expect(damaged).toEqual([]);
  const request = { store, filter: {}, selector: undefined, deep: true, keys: { identities: [], passphrases: [] } };
  const verified = await verify(request, context);
  expect(verified.backups.map(({ failure }) => failure)).toEqual(manifests.map(() => undefined));
  expect(await allOf(store.listUploads(''))).toEqual([]);
  expect(await allOf(store.list(keys.intentsPrefix))).toEqual([]);
  expect(await allOf(repository.unclaimedObjects(manifests))).toEqual([]);
  return manifests.length;
}

describe('each call to the store fails once in a backup', () => {
  test.each([
    ['before', true],
    ['after', true],
    ['before', false],
    ['after', false],
  ] as const)(
    '%s it is carried out, with metadata kept: %s: the next run leaves nothing but whole backups',
    async (when, keepsMetadata) => {
      await using database = await createDatabase({
        name: 'faults',
        sql: 'create table t as select generate_series(1, 100) as id',
      });
      let failures = 0;
      for (let number = 1; number <= CALLS_MAX; number += 1) {
        let storeAheadMs = 0;
        const clock = { now: () => new Date(Date.now() + storeAheadMs) };
        const memory = new MemoryStore({ keepsMetadata, kind: keepsMetadata ? 's3' : 'file', clock });
        const store = new FaultyStore(memory, failing(number, when));
        const first = await backup(requestOf(database, store), context).then(
          () => 'committed',
          (error: unknown) => error,
        );
        if (first !== 'committed') {
          failures += 1;
          expect(first).toBeInstanceOf(PgarkError);
        }
        const reached = store.calls >= number;
        // A run whose lease could not be given back is dead when the store says so.
        storeAheadMs = 2 * LEASE_TERM_MS;
        await backup(requestOf(database, memory), context);
        const count = await expectSound(memory);
        expect(count).toBeGreaterThanOrEqual(first === 'committed' ? 2 : 1);
        if (!reached) break;
        expect(number).toBeLessThan(CALLS_MAX);
      }
      expect(failures).toBeGreaterThan(5);
    },
    300_000,
  );
});

test.each([
  ['ahead of', -600_000],
  ['behind', 600_000],
])("a clock that is %s the store's is told of", async (how, storeAheadMs) => {
  await using database = await createDatabase({ name: 'clock' });
  const warnings: string[] = [];
  const logger = { ...silentLogger, warning: (_: string, message: string) => void warnings.push(message) };
  logger.child = () => logger;
  const run = (aheadMs: number) => {
    const store = new MemoryStore({ clock: { now: () => new Date(Date.now() + aheadMs) } });
    return backup(requestOf(database, store), operationContext({ logger }));
  };
  await run(0);
  expect(warnings).toEqual([]);
  await run(storeAheadMs);
  expect(warnings).toEqual([expect.stringMatching(`this machine's clock is (9|10) min.* ${how} that of`)]);
});
