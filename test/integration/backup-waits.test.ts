import { expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { backup } from '../../src/operations/backup.ts';
import { operationContext } from '../../src/operations/context.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { PgarkError } from '../../src/common/errors.ts';
import { dataKeysOf, Repository } from '../../src/repository/repository.ts';
import { DistantStore } from '../support/distant-store.ts';
import { FaultyStore, type StoreCall } from '../support/faulty-store.ts';
import { postgresFacts } from '../support/facts.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';

async function backUp(
  database: TestDatabase,
  store: ObjectStore,
  format: 'plain' | 'directory' = 'plain',
): Promise<void> {
  const { host, port, user, password } = postgresFacts();
  await backup(
    {
      source: 'shop',
      format,
      connection: { host, port, user, password: new Secret(password), database: database.name, sslMode: 'disable' },
      destinations: [{ name: 'store', store, needsDelete: true }],
      seal: { compression: { algorithm: 'gzip', level: 1 } },
      nameTemplate: '{id}/{database}',
      excludeTableData: [],
      leaseTermMs: 60_000,
      readBack: false,
      dryRun: false,
    },
    operationContext(),
  );
}

test('the first backup makes a folder that is not there yet, however long that takes', async () => {
  await using database = await createDatabase();
  const memory = new MemoryStore();
  const place = { isMade: false };
  const looked = Promise.withResolvers<undefined>();
  const store = new FaultyStore(memory, {
    before: async ({ method }) => {
      if (method === 'probe') {
        await looked.promise;
        place.isMade = true;
      } else if (!place.isMade) {
        looked.resolve(undefined);
        throw new PgarkError('store-bucket-missing', 'there is no such folder');
      }
    },
  });
  await backUp(database, store);
  expect([...memory.objects.keys()].filter((key) => key.startsWith('.pgark/backups/'))).toHaveLength(1);
});

test('a backup asks a distant store side by side what does not depend on one another', async () => {
  await using database = await createDatabase();
  const memory = new MemoryStore();
  await backUp(database, memory);
  const distant = new DistantStore(memory);
  await backUp(database, distant.store);
  const { rounds } = distant;
  const among = (asked: RegExp): string => rounds[distant.roundOf(asked) ?? -1]?.join('\n') ?? '';
  // The layout in the checks, beside the probe.
  expect(rounds[0]).toEqual(['get .pgark/repository.json']);
  const taking = among(/^putSmall \.pgark\/runs\//);
  expect(taking).toMatch(/^now $/m);
  expect(taking).toMatch(/^get \.pgark\/leases\//m);
  expect(distant.roundOf(/^putSmall \.pgark\/leases\//)).toBe(2);
  const looking = among(/^list \.pgark\/intents\//);
  expect(looking).toMatch(/^list \.pgark\/deleted\//m);
  expect(looking).toMatch(/^list \.pgark\/backups\//m);
  expect(looking).toMatch(/^head \d{8}T/m);
  // What was there before is read while the intent is on its way; no byte comes before it.
  expect(among(/^get \.pgark\/backups\//)).toMatch(/^head \d{8}T/m);
  expect(distant.roundOf(/^putSmall \.pgark\/intents\//)).toBe(5);
  expect(distant.roundOf(/^putStream /)).toBe(6);
  const over = rounds.slice(-2).map((calls) => calls.join('\n'));
  expect(over[0]).toMatch(/^delete \.pgark\/intents\//m);
  expect(over[0]).toMatch(/^putSmall \.pgark\/leases\//m);
  // Last the record, whose log tells what could not be tidied up.
  expect(over[1]).toMatch(/^putSmall \.pgark\/runs\//m);
  expect(over[1]).toMatch(/^putSmall \.pgark\/logs\//m);
});

test('an archive lists its contents while what is listed is still being confirmed, and is none if that fails', async () => {
  await using database = await createDatabase();
  const isPut = ({ method, key }: StoreCall, name: string): boolean => method === 'putStream' && key.includes(name);
  for (const fails of [false, true]) {
    const memory = new MemoryStore();
    const listed = Promise.withResolvers<void>();
    const store = new FaultyStore(memory, {
      after: async (call) => {
        if (isPut(call, '/contents.json')) listed.resolve();
        if (!isPut(call, '/toc.dat')) return;
        await listed.promise;
        if (fails) throw new PgarkError('store-unreachable', 'the table of contents may not be there');
      },
    });
    const done = backUp(database, store, 'directory');
    if (fails) await expect(done).rejects.toMatchObject({ code: 'store-unreachable' });
    else await done;
    const { manifests } = await new Repository(memory, operationContext()).backups();
    const archived = [...memory.objects.keys()].filter((key) => key.includes('/archive/'));
    expect(manifests).toHaveLength(fails ? 0 : 1);
    if (fails) expect(archived).toEqual([]);
    else expect(archived).toEqual(expect.arrayContaining(manifests.flatMap(dataKeysOf)));
  }
});
