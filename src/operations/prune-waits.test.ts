import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { DistantStore } from '../../test/support/distant-store.ts';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { keys } from '../repository/keys.ts';
import type { LeaseRecord } from '../repository/lease-record.ts';
import { Repository } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { operationContext } from './context.ts';
import { prune, type PruneOutcome } from './prune.ts';

const DAY_MS = 86_400_000;
const context = operationContext();

/** Two backups, of which the older one goes. */
async function scene(): Promise<MemoryStore> {
  const memory = new MemoryStore();
  await new Repository(memory, context).initialise({ pgarkVersion: '1.0.0' });
  const times = [10, 1].map((days) => new Date(Date.now() - days * DAY_MS));
  await seedBackups(memory, { source: 'main', database: 'shop', times, withData: true });
  return memory;
}

function pruned(store: ObjectStore, keepLast: number, isWritten: boolean): Promise<PruneOutcome> {
  return prune(
    {
      store,
      filter: { source: 'main', database: 'shop' },
      policyOf: () => ({ keep: { last: keepLast }, minBackups: 1 }),
      timezone: 'UTC',
      leaseTermMs: 60_000,
      dryRun: false,
      isWritten,
      force: true,
    },
    context,
  );
}

async function leaseIn(store: ObjectStore): Promise<LeaseRecord> {
  const { body } = await store.get(keys.lease('prune'));
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString()) as LeaseRecord;
}

test('a prune behind a backup waits six times for a store where nothing is to be removed', async () => {
  const distant = new DistantStore(await scene());
  await pruned(distant.store, 2, true);
  expect(distant.rounds).toHaveLength(6);
  // By itself it writes nothing before it has seen that this is a repository.
  const other = new DistantStore(await scene());
  await pruned(other.store, 2, false);
  expect(other.rounds[0]).toEqual([`get ${keys.repository}`]);
  expect(other.rounds).toHaveLength(7);
});

test('a prune behind a backup deletes nothing where the storage has become one of a later version, or none', async () => {
  const store = await scene();
  const there = [...store.objects.keys()];
  const later = { layout: 99, id: 'x', createdAt: new Date().toISOString() };
  await store.putSmall(keys.repository, Buffer.from(JSON.stringify(later)));
  await expect(pruned(store, 1, true)).rejects.toMatchObject({ code: 'repository-unknown-layout' });
  expect(await leaseIn(store)).toMatchObject({ released: true });
  await store.delete(keys.repository);
  expect(await pruned(store, 1, true)).toMatchObject({ removed: [], planned: [] });
  expect(await leaseIn(store)).toMatchObject({ released: true });
  const left = there.filter((key) => key !== keys.repository);
  expect([...store.objects.keys()]).toEqual(expect.arrayContaining(left));
});

test('a prune resolves when its lease is free, which its record does not wait for', async () => {
  const memory = await scene();
  const order: string[] = [];
  const store = new FaultyStore(memory, {
    before: async ({ method, key }) => {
      if (method === 'putSmall' && key === keys.lease('prune')) await delay(100);
    },
    after: ({ method, key }) => {
      if (method === 'putSmall') order.push(key.split('/')[1] ?? '');
    },
  });
  const { removed } = await pruned(store, 1, true);
  expect(removed).toHaveLength(1);
  expect(await leaseIn(memory)).toMatchObject({ released: true });
  expect(order.at(-1)).toBe('leases');
});
