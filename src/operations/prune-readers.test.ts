import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { globalsRecord, makeGlobalsId } from '../../test/support/globals.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { storeChain } from '../../test/support/base-chain.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { type Logger, silentLogger } from '../common/log.ts';
import { systemClock } from '../common/clock.ts';
import { systemRandom } from '../common/random.ts';
import { commitGlobals } from '../repository/globals.ts';
import { HeldBackup } from '../repository/held-backup.ts';
import { keys } from '../repository/keys.ts';
import { Leases } from '../repository/leases.ts';
import { type Manifest, serialiseManifest } from '../repository/manifest.ts';
import { Repository } from '../repository/repository.ts';
import { sweep } from '../repository/sweep.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { operationContext } from './context.ts';
import { prune, type PruneOutcome } from './prune.ts';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

async function seeded(store: ObjectStore): Promise<readonly [Manifest, Manifest]> {
  const times = [3, 2, 1].map((days) => new Date(Date.now() - days * DAY_MS));
  const [oldest, older] = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
  if (oldest === undefined || older === undefined) throw new Error('nothing was made');
  return [oldest, older];
}

function pruneAll(store: ObjectStore, logger: Logger = silentLogger, dryRun = false): Promise<PruneOutcome> {
  const policyOf = () => ({ keep: { last: 1 }, minBackups: 1 });
  const rest = { timezone: 'UTC', leaseTermMs: 60_000, dryRun, force: true };
  return prune({ store, filter: {}, policyOf, ...rest }, operationContext({ logger }));
}

const holder = { host: 'db1', pid: 71, runId: 'r', command: 'pgark restore' };
const world = { clock: systemClock, random: systemRandom, logger: silentLogger };

function hold(store: ObjectStore, manifest: Manifest): Promise<HeldBackup> {
  const { signal } = new AbortController();
  return HeldBackup.hold(manifest, { store, ...world, signal, holder, untakenLevel: 'warning' });
}

function isThere(store: MemoryStore, manifest: Manifest): boolean {
  const own = [keys.manifest('main', 'shop', manifest.id), ...manifest.objects.map(({ key }) => key)];
  const there = own.filter((key) => store.objects.has(key));
  if (there.length % own.length !== 0) throw new Error(`half of it is there: ${there.join(', ')}`);
  return there.length > 0;
}

const notes = (store: MemoryStore): readonly string[] =>
  [...store.objects.keys()].filter((key) => key.startsWith(keys.deletedPrefix));

test('a backup that is read stays, also by force, with a warning that says who reads it; and goes with the next prune', async () => {
  const store = new MemoryStore();
  const [oldest, older] = await seeded(store);
  const held = await hold(store, oldest);
  const told: string[] = [];
  const logger: Logger = {
    ...silentLogger,
    warning: (event, message) => void told.push(`${event}: ${message}`),
    child: () => logger,
  };
  expect((await pruneAll(store, logger)).removed.map(({ id }) => id)).toEqual([older.id]);
  const words = `backup ${oldest.id} of shop stays until the next prune: it is read by db1 (pid 71) for \`pgark restore\` since `;
  expect(told).toEqual([expect.stringContaining(`prune.in_use: ${words}`)]);
  expect([isThere(store, oldest), notes(store)]).toEqual([true, []]);
  await held.release();
  expect((await pruneAll(store)).removed.map(({ id }) => id)).toEqual([oldest.id]);
  expect(isThere(store, oldest)).toBe(false);
});

test.each([true, false])('what stays for a reader is told with who it is (dry run: %s)', async (dryRun) => {
  const store = new MemoryStore();
  const [oldest, older] = await seeded(store);
  const record = globalsRecord(makeGlobalsId(), { storeTime: new Date(Date.now() - 3 * DAY_MS) });
  await commitGlobals(store, record);
  await commitGlobals(store, globalsRecord(makeGlobalsId(), { storeTime: new Date(Date.now() - DAY_MS - 1) }));
  const held = await hold(store, oldest);
  const before = [...store.objects.keys()];
  const outcome = await pruneAll(store, silentLogger, dryRun);
  const reader = expect.stringMatching(/^db1 \(pid 71\) for `pgark restore` since 20/);
  expect(outcome.inUse).toEqual([{ manifest: expect.objectContaining({ id: oldest.id }), read: oldest.id, reader }]);
  expect(outcome.planned.map(({ id }) => id)).toEqual([oldest.id, older.id]);
  expect(outcome.globals).toEqual([]);
  if (dryRun) expect([...store.objects.keys()]).toEqual(before);
  await held.release();
  expect(await pruneAll(store, silentLogger, true)).toMatchObject({ inUse: [], globals: [{ id: record.id }] });
});

test.each([true, false])(
  'so are all that a chain of physical backups has behind one that is read (dry run: %s)',
  async (dryRun) => {
    const store = new MemoryStore({ clock: { now: () => new Date('2026-12-20T00:00:00Z') } });
    const link = { files: [] };
    await new Repository(store, world).initialise({ pgarkVersion: '0' });
    const [newest, middle, full] = (await storeChain(store, [link, link, link])).map(({ manifest }) => manifest);
    await storeChain(store, [link], { firstDay: 5 });
    if (middle === undefined) throw new Error('nothing was made');
    // As of a reader that has not got further yet.
    await store.putSmall(
      keys.reading(middle.id, 'a'),
      Buffer.from(
        JSON.stringify({
          layout: 1,
          id: middle.id,
          holder,
          since: '2026-12-19T00:00:00.000Z',
          until: '2026-12-20T00:05:00.000Z',
        }),
      ),
    );
    const outcome = await pruneAll(store, silentLogger, dryRun);
    expect(outcome.planned.map(({ id }) => id)).toEqual([newest?.id, middle.id, full?.id]);
    expect(outcome.inUse.map(({ manifest, read }) => [manifest.id, read])).toEqual([
      [middle.id, middle.id],
      [full?.id, middle.id],
    ]);
    expect(outcome.removed.map(({ id }) => id)).toEqual(dryRun ? [] : [newest?.id]);
  },
);

test('globals that would go with a backup that is read stay with it', async () => {
  const store = new MemoryStore();
  const [oldest] = await seeded(store);
  const record = globalsRecord(makeGlobalsId(), { storeTime: new Date(Date.now() - 3 * DAY_MS) });
  await commitGlobals(store, record);
  const newer = { ...globalsRecord(makeGlobalsId(), { storeTime: new Date(Date.now() - DAY_MS - 1) }) };
  await commitGlobals(store, newer);
  const held = await hold(store, oldest);
  expect((await pruneAll(store)).globals).toEqual([]);
  expect(store.objects.has(keys.globalsRecord('main', record.id))).toBe(true);
  await held.release();
  expect((await pruneAll(store)).globals.map(({ id }) => id)).toEqual([record.id]);
});

test('the hold of a reader that died an hour ago is removed, and holds nothing', async () => {
  const store = new MemoryStore();
  const [oldest, older] = await seeded(store);
  const at = (msAgo: number): string => new Date(Date.now() - msAgo).toISOString();
  const reading = (msAgo: number) => ({ layout: 1, id: oldest.id, holder, since: at(DAY_MS), until: at(msAgo) });
  await store.putSmall(keys.reading(oldest.id, 'a'), Buffer.from(JSON.stringify(reading(2 * HOUR_MS))));
  await store.putSmall(keys.reading(oldest.id, 'b'), Buffer.from(JSON.stringify(reading(HOUR_MS / 2))));
  expect((await pruneAll(store)).removed.map(({ id }) => id)).toEqual([oldest.id, older.id]);
  const left = [...store.objects.keys()].filter((key) => key.startsWith(keys.readingPrefix));
  expect(left).toEqual([keys.reading(oldest.id, 'b')]);
});

describe('wherever a reader comes in between', () => {
  /** Runs a prune; before its call `n` the reader begins and makes `m` calls; the others when the prune has ended. */
  async function meet(n: number, m: number) {
    const memory = new MemoryStore();
    const [oldest] = await seeded(memory);
    const ended = Promise.withResolvers<void>();
    const paused = Promise.withResolvers<void>();
    const reader = new FaultyStore(memory, {
      before: async ({ number }) => {
        if (number <= m) return;
        paused.resolve();
        await ended.promise;
      },
    });
    let holding: Promise<HeldBackup | 'gone'> | undefined;
    const pruner = new FaultyStore(memory, {
      before: async ({ number }) => {
        if (number !== n) return;
        holding = hold(reader, oldest).catch(() => 'gone' as const);
        // One that waits for what the prune does next has made its calls too.
        await Promise.race([paused.promise, holding, systemClock.sleep(20)]);
      },
    });
    const { removed } = await pruneAll(pruner);
    ended.resolve();
    const held = await holding;
    const seen = { held, removed: removed.some(({ id }) => id === oldest.id), isThere: isThere(memory, oldest) };
    if (held instanceof HeldBackup) await held.release();
    const left = [...notes(memory), ...[...memory.objects.keys()].filter((key) => key.startsWith(keys.readingPrefix))];
    return { ...seen, left, calls: pruner.calls };
  }

  test.each([1, 2, 3, 4, 5])(
    'and gets so far, %i calls, before the prune goes on, either of them gives way',
    async (m) => {
      const { calls } = await meet(0, 0);
      const outcomes = await Promise.all(Array.from({ length: calls }, (_, index) => meet(index + 1, m)));
      for (const { held, removed, isThere: there, left } of outcomes) {
        // Whoever holds it has all of it.
        expect({ held: held instanceof HeldBackup, removed, left }).toEqual({ held: there, removed: !there, left: [] });
      }
      const kept = outcomes.filter(({ held }) => held instanceof HeldBackup).length;
      expect(kept).toBeLessThan(calls);
      if (m > 1) expect(kept).toBeGreaterThan(0);
    },
  );
});

test('a removal that a prune began and did not finish is taken back where somebody reads, and finished where nobody does', async () => {
  const store = new MemoryStore();
  const [oldest] = await seeded(store);
  const held = await hold(store, oldest);
  await store.putSmall(keys.deleted(oldest.id), serialiseManifest(oldest));
  const leases = new Leases(store, { ...world, termMs: 60_000, holder });
  const repository = new Repository(store, world);
  expect(await sweep({ repository, leases, logger: silentLogger })).toMatchObject({ deletions: [], failures: [] });
  expect([isThere(store, oldest), notes(store)]).toEqual([true, []]);
  await store.putSmall(keys.deleted(oldest.id), serialiseManifest(oldest));
  await held.release();
  expect(await sweep({ repository, leases, logger: silentLogger })).toMatchObject({ deletions: [oldest.id] });
  expect(isThere(store, oldest)).toBe(false);
});

test('a removal whose manifest is gone is finished, whoever reads', async () => {
  const store = new MemoryStore();
  const [oldest] = await seeded(store);
  const held = await hold(store, oldest);
  await store.putSmall(keys.deleted(oldest.id), serialiseManifest(oldest));
  await store.delete(keys.manifest('main', 'shop', oldest.id));
  const leases = new Leases(store, { ...world, termMs: 60_000, holder });
  const repository = new Repository(store, world);
  expect(await sweep({ repository, leases, logger: silentLogger })).toMatchObject({ deletions: [oldest.id] });
  expect(isThere(store, oldest)).toBe(false);
  await held.release();
});
