import { describe, expect, test } from 'vitest';
import { storeChain } from '../../test/support/base-chain.ts';
import { FaultyStore, type StoreCall } from '../../test/support/faulty-store.ts';
import { impatientClock } from '../../test/support/impatient-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { errorOf } from '../../test/support/destinations.ts';
import { globalsRecord, makeGlobalsId } from '../../test/support/globals.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { systemClock } from '../common/clock.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { commitGlobals } from '../repository/globals.ts';
import { keys } from '../repository/keys.ts';
import { Leases } from '../repository/leases.ts';
import { type Manifest, serialiseManifest } from '../repository/manifest.ts';
import { dataKeysOf, Repository } from '../repository/repository.ts';
import { sweep } from '../repository/sweep.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { operationContext } from './context.ts';
import { pinBackup, pinOf, unpinBackup } from './pin.ts';
import { prune } from './prune.ts';

const DAY_MS = 86_400_000;
const leaseTermMs = 60_000;
/** Nobody waits for long here. */
const clock = impatientClock(5);
const context = operationContext({ clock });

/** An old backup that any prune lets go, and a newer one. */
async function scene(): Promise<{ memory: MemoryStore; store: FaultyStore; old: Manifest }> {
  const memory = new MemoryStore();
  const times = [10, 1].map((days) => new Date(Date.now() - days * DAY_MS));
  const [old] = await seedBackups(memory, { source: 'shop', database: 'shop', times, withData: true });
  if (old === undefined) throw new Error('there are two');
  return { memory, store: new FaultyStore(memory), old };
}

const pin = (store: ObjectStore, manifest: Manifest, reason?: string) =>
  pinBackup({ store, manifest, reason, leaseTermMs }, context);

async function pruneAll(store: ObjectStore): Promise<readonly string[]> {
  const policyOf = () => ({ keep: { last: 1 }, minBackups: 1 });
  const request = { store, filter: {}, policyOf, timezone: 'UTC', leaseTermMs, dryRun: false, force: true };
  return (await prune(request, context)).removed.map(({ id }) => id);
}

function keysLeft({ objects }: MemoryStore, manifest: Manifest): readonly string[] {
  return [keys.manifest(manifest.source, manifest.database.name, manifest.id), ...dataKeysOf(manifest)].filter((key) =>
    objects.has(key),
  );
}

/** Awaited by the call of that number, until it is let go on; resolves when it is reached, or `work` has ended before. */
function heldAt(store: FaultyStore, number: number, work: () => Promise<unknown>) {
  const reached = Promise.withResolvers<'held' | 'ended'>();
  const gate = Promise.withResolvers<undefined>();
  store.faults = {
    before: async (call: StoreCall) => {
      if (call.number !== number) return;
      reached.resolve('held');
      await gate.promise;
    },
  };
  const result = work().finally(() => reached.resolve('ended'));
  return { reached: reached.promise, goOn: () => gate.resolve(undefined), result };
}

describe('a pin', () => {
  test('says who, when and why, holds the backup against every prune, and lets it go when it is taken back', async () => {
    const { store, old } = await scene();
    const { pin: made, isNew } = await pin(store, old, 'before the move');
    expect(isNew).toBe(true);
    expect(made).toMatchObject({ id: old.id, reason: 'before the move', by: { host: context.host } });
    expect(await pinOf(store, old.id, context)).toEqual({ isPinned: true, pin: made });
    expect(await pruneAll(store)).toEqual([]);
    // The first reason stays, until another one is given.
    expect(await pin(store, old)).toEqual({ pin: made, isNew: false });
    expect((await pin(store, old, 'still needed')).pin.reason).toBe('still needed');
    expect(await unpinBackup({ store, id: old.id }, context)).toBe(true);
    expect(await unpinBackup({ store, id: old.id }, context)).toBe(false);
    expect(await pruneAll(store)).toEqual([old.id]);
  });

  test.each([
    ['what is no JSON', '{'],
    ['one of a later version', JSON.stringify({ layout: 99, until: 'tomorrow' })],
  ])('holds by being there, whatever is in it: %s', async (_, bytes) => {
    const { store, old } = await scene();
    await store.putSmall(keys.pin(old.id), Buffer.from(bytes));
    expect(await pinOf(store, old.id, context)).toEqual({ isPinned: true, pin: undefined });
    expect(await pruneAll(store)).toEqual([]);
    expect((await pin(store, old)).isNew).toBe(true);
    await store.putSmall(keys.pin(old.id), Buffer.from(bytes));
    expect(await unpinBackup({ store, id: old.id }, context)).toBe(true);
  });

  test('of one backup of a chain keeps all that it needs, and not what needs it', async () => {
    const memory = new MemoryStore({ clock: { now: () => new Date('2026-12-20T00:00:00Z') } });
    const link = { files: [] };
    const [newest, middle, full] = (await storeChain(memory, [link, link, link])).map(({ manifest }) => manifest);
    await storeChain(memory, [link], { firstDay: 5 });
    if (newest === undefined || middle === undefined || full === undefined) throw new Error('there are three');
    await new Repository(memory, context).initialise({ pgarkVersion: '0.1.0' });
    await pin(memory, middle);
    expect(await pruneAll(memory)).toEqual([newest.id]);
    await unpinBackup({ store: memory, id: middle.id }, context);
    // Pinned when the prune has begun with the chain's end, and would go on with this one and what it needs.
    const store = new FaultyStore(memory);
    const gone = keys.deleted(middle.id);
    store.faults = {
      before: async ({ method, key }) => {
        if (method === 'putSmall' && key === gone) await memory.putSmall(keys.pin(middle.id), Buffer.from('{}'));
      },
    };
    expect(await pruneAll(store)).toEqual([]);
    expect(await pruneAll(memory)).toEqual([]);
  });
});

test('roles and settings that go with a backup stay with it, where it is pinned while a prune goes on', async () => {
  const { memory, store, old } = await scene();
  const records = [9, 0].map((days) =>
    globalsRecord(makeGlobalsId(), { source: 'shop', storeTime: new Date(Date.now() - days * DAY_MS) }),
  );
  for (const record of records) await commitGlobals(memory, record);
  const left = () => records.filter(({ id }) => memory.objects.has(keys.globalsRecord('shop', id))).length;
  store.faults = {
    before: async ({ method, key }) => {
      if (method === 'putSmall' && key === keys.deleted(old.id))
        await memory.putSmall(keys.pin(old.id), Buffer.from('{}'));
    },
  };
  expect(await pruneAll(store)).toEqual([]);
  expect(left()).toBe(2);
  await memory.delete(keys.pin(old.id));
  expect(await pruneAll(memory)).toEqual([old.id]);
  expect(left()).toBe(1);
});

/** Enough for all calls of a prune with one backup to remove. */
const CALLS_MAX = 80;

describe('a pin and a prune at the same time', () => {
  /** The pin has come in time, and all is there; or it is told that it has not, and nothing is left of backup and pin. */
  async function expectDecided(memory: MemoryStore, old: Manifest, pinning: Promise<unknown>): Promise<boolean> {
    const error = await pinning.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(memory.objects.has(keys.deleted(old.id))).toBe(false);
    expect(memory.objects.has(keys.pin(old.id))).toBe(error === undefined);
    expect(keysLeft(memory, old)).toHaveLength(error === undefined ? 2 : 0);
    if (error !== undefined) expect(error).toMatchObject({ code: 'backup-not-found' });
    return error === undefined;
  }

  test('wherever the prune has got to', async () => {
    const results: boolean[] = [];
    for (let number = 1; number <= CALLS_MAX; number += 1) {
      const { memory, store, old } = await scene();
      const pruning = heldAt(store, number, () => pruneAll(store));
      if ((await pruning.reached) === 'ended') break;
      const pinning = pin(memory, old);
      pinning.catch(() => undefined);
      // As far as it gets without the prune.
      await Promise.race([pinning.catch(() => undefined), systemClock.sleep(50)]);
      pruning.goOn();
      await pruning.result;
      results.push(await expectDecided(memory, old, pinning));
    }
    expect(results.length).toBeLessThan(CALLS_MAX);
    expect(new Set(results)).toEqual(new Set([true, false]));
  });

  test('wherever the pin has got to', async () => {
    const results: boolean[] = [];
    for (let number = 1; number <= CALLS_MAX; number += 1) {
      const { memory, store, old } = await scene();
      const pinning = heldAt(store, number, () => pin(store, old));
      pinning.result.catch(() => undefined);
      if ((await pinning.reached) === 'ended') break;
      await pruneAll(memory);
      pinning.goOn();
      results.push(await expectDecided(memory, old, pinning.result));
    }
    expect(results.length).toBeLessThan(CALLS_MAX);
    expect(new Set(results)).toEqual(new Set([true, false]));
  });

  test('where the prune has died with the deletion begun, and nobody else is there', async () => {
    const { memory, store, old } = await scene();
    await store.putSmall(keys.deleted(old.id), serialiseManifest(old));
    await expectDecided(memory, old, pin(store, old));
    expect(await pruneAll(store)).toEqual([]);
  });

  test('where somebody takes it back meanwhile', async () => {
    const { memory, store, old } = await scene();
    await store.putSmall(keys.deleted(old.id), serialiseManifest(old));
    store.faults = {
      after: async ({ method, key }) => {
        if (method === 'putSmall' && key.includes('/leases/')) await memory.delete(keys.pin(old.id));
      },
    };
    expect(await errorOf(pin(store, old))).toMatchObject({ code: 'store-condition-failed' });
  });

  test('no sweep finishes a deletion of what is pinned, nor one that is a prune’s', async () => {
    const { memory, store, old } = await scene();
    await store.putSmall(keys.deleted(old.id), serialiseManifest(old));
    const holder = { host: 'h', pid: 1, runId: 'r', command: 'pgark prune' };
    const options = { clock, random: systemRandom, logger: silentLogger, termMs: leaseTermMs, holder };
    const lease = await new Leases(store, options).acquire('prune');
    const sweepUp = () =>
      sweep({
        repository: new Repository(store, context),
        leases: new Leases(store, { ...options, holder: { ...holder, command: 'pgark backup' } }),
        logger: silentLogger,
      });
    expect((await sweepUp()).deletions).toEqual([]);
    expect(keysLeft(memory, old)).toHaveLength(2);
    await lease.release();
    await store.putSmall(keys.pin(old.id), Buffer.from('{}'));
    expect((await sweepUp()).deletions).toEqual([]);
    expect(keysLeft(memory, old)).toHaveLength(2);
    expect(memory.objects.has(keys.deleted(old.id))).toBe(false);
    // What was begun is finished: nobody restores from a half.
    await store.putSmall(keys.deleted(old.id), serialiseManifest(old));
    await store.delete(keys.manifest(old.source, old.database.name, old.id));
    expect((await sweepUp()).deletions).toEqual([old.id]);
  });
});

test('a pin that the storage does not take leaves nothing, and says so', async () => {
  const { memory, store, old } = await scene();
  store.faults = {
    before: ({ method, key }) => {
      if (method === 'putSmall' && key.startsWith('.pgark/pins/')) throw new Error('read only');
    },
  };
  expect((await errorOf(pin(store, old))).message).toMatch(/read only/);
  expect(memory.objects.has(keys.pin(old.id))).toBe(false);
});
