import { expect, test } from 'vitest';
import { storeChain } from '../../test/support/base-chain.ts';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { asPgarkError, PgarkError } from '../common/errors.ts';
import { keys } from '../repository/keys.ts';
import { Repository } from '../repository/repository.ts';
import type { RetentionPolicy } from '../retention/policy.ts';
import { operationContext } from './context.ts';
import { prune, type PruneOutcome } from './prune.ts';
import { verify } from './verify.ts';

/** Of the days from 20 November 2026 on. */
const NOW = new Date('2026-12-20T00:00:00Z');

async function planIn(store: MemoryStore, policy: RetentionPolicy): Promise<PruneOutcome> {
  const request = { store, filter: {}, policyOf: () => policy, timezone: 'UTC', leaseTermMs: 60_000 };
  return prune({ ...request, dryRun: true, force: true }, operationContext());
}

test('retention keeps all that a kept backup of a chain needs, and deletes a chain from its end', async () => {
  const store = new MemoryStore({ clock: { now: () => NOW } });
  const link = { files: [] };
  const chain = await storeChain(store, [link, link, link]);
  const [newest, middle, full] = chain.map(({ manifest }) => manifest);
  const { plan, planned } = await planIn(store, { keep: { last: 1 }, minBackups: 1 });
  expect(planned).toEqual([]);
  expect(Object.fromEntries(plan.keep.map(({ id, reasons }) => [id, reasons]))).toEqual({
    [newest?.id ?? '']: ['newest', 'minimum', 'last'],
    [middle?.id ?? '']: ['needed'],
    [full?.id ?? '']: ['needed'],
  });
  // A newer backup, which needs none of them, lets them all go.
  const [later] = await storeChain(store, [link], { firstDay: 5 });
  const after = await planIn(store, { keep: { last: 1 }, minBackups: 1 });
  expect(after.plan.keep.map(({ id }) => id)).toEqual([later?.manifest.id]);
  expect(after.planned.map(({ id }) => id)).toEqual([newest?.id, middle?.id, full?.id]);
});

test('where a prune has no room for its notes, a chain is named whole, from its end, with the folder of each backup', async () => {
  const store = new MemoryStore({ clock: { now: () => NOW } });
  const link = { files: [] };
  const chain = await storeChain(store, [link, link, link]);
  const [later] = await storeChain(store, [link], { firstDay: 5 });
  await new Repository(store, operationContext()).initialise({ pgarkVersion: '0' });
  const full = new FaultyStore(store, {
    before: ({ method }) => {
      if (method === 'putSmall') throw new PgarkError('store-full', 'no room');
    },
  });
  const policyOf = (): RetentionPolicy => ({ keep: { last: 1 }, minBackups: 1 });
  const request = {
    store: full,
    filter: {},
    policyOf,
    timezone: 'UTC',
    leaseTermMs: 60_000,
    dryRun: false,
    force: true,
  };
  const { hint } = await prune(request, operationContext()).then(
    () => expect.unreachable(),
    (error: unknown) => asPgarkError(error),
  );
  const named = chain.map(({ manifest: { source, id, database } }) => {
    return `${keys.manifest(source, database.name, id)}, then the folder ${keys.basePrefix(source, id)} with all in it`;
  });
  expect(hint).toContain(`: ${named.join('; ')}`);
  expect(hint).not.toContain(later?.manifest.id);
});

test('an incremental backup whose parent is gone is not whole, as verify says', async () => {
  const store = new MemoryStore();
  const link = { files: [] };
  const [newest, parent] = (await storeChain(store, [link, link])).map(({ manifest }) => manifest);
  if (newest === undefined || parent === undefined) throw new Error('there are two');
  await store.delete(keys.manifest('main', 'postgres', parent.id));
  const noKeys = { identities: [], passphrases: [] };
  const { backups } = await verify(
    { store, filter: {}, selector: undefined, deep: true, keys: noKeys },
    operationContext(),
  );
  expect(backups.map(({ manifest, depth, failure }) => [manifest.id, depth, failure?.message])).toEqual([
    [newest.id, 'present', expect.stringContaining(`${parent.id}, which it is relative to, is not in memory:`)],
  ]);
});
