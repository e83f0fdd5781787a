import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { PgarkError } from '../common/errors.ts';
import { type Logger, silentLogger } from '../common/log.ts';
import { keys } from '../repository/keys.ts';
import { type Manifest, serialiseManifest } from '../repository/manifest.ts';
import type { KeepReason } from '../retention/plan.ts';
import { operationContext } from './context.ts';
import { list } from './list.ts';
import { prune } from './prune.ts';

const DAY_MS = 86_400_000;

test('the newest backup that was proven to restore stays, by the newest proof of each, and so does one whose proof is damaged', async () => {
  const store = new MemoryStore();
  const now = Date.now();
  const times = [10, 9, 8, 7, 6, 5].map((days) => new Date(now - days * DAY_MS));
  const backups = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
  // A neighbour whose name begins the same has proofs of its own.
  const neighbours = await seedBackups(store, { source: 'main', database: 'shop-eu', times, withData: true });
  const [proven, disproven, damaged, alsoProven] = backups;
  const prove = async (backup: Manifest | undefined, hour: number, text?: string): Promise<void> => {
    if (backup === undefined) throw new Error('there is no such backup');
    const at = new Date(now + (hour - 3) * 3_600_000);
    const proof = text ?? JSON.stringify({ layout: 1, at: at.toISOString(), passed: true });
    await store.putSmall(keys.proof('main', backup.database.name, backup.id, at, 'verify'), Buffer.from(proof));
  };
  const failed = JSON.stringify({ layout: 1, at: new Date(now).toISOString(), passed: false });
  await prove(proven, 1, failed);
  await prove(proven, 2);
  await prove(disproven, 1);
  await prove(disproven, 2, failed);
  await prove(damaged, 1, '{');
  await prove(neighbours[1], 1);
  const kept = async (): Promise<unknown> => {
    const { plan } = await prune(
      {
        store,
        filter: {},
        policyOf: () => ({ keep: { last: 1 }, minBackups: 1 }),
        timezone: 'UTC',
        leaseTermMs: 60_000,
        dryRun: true,
        force: false,
      },
      operationContext(),
    );
    return Object.fromEntries(plan.keep.map(({ id, reasons }) => [id, reasons]));
  };
  const always = Object.fromEntries(
    [backups, neighbours].map((each) => [each.at(-1)?.id, expect.arrayContaining(['newest'])]),
  );
  const lastProven = (backup: Manifest | undefined) => ({ [backup?.id ?? '']: ['last-proven'] });
  const unread = { [damaged?.id ?? '']: ['proof-unread'] };
  expect(await kept()).toEqual({ ...always, ...unread, ...lastProven(proven), ...lastProven(neighbours[1]) });
  await prove(alsoProven, 1);
  expect(await kept()).toEqual({ ...always, ...unread, ...lastProven(alsoProven), ...lastProven(neighbours[1]) });
});

test('a proof of a newer version keeps its backup, takes the place of none, and is listed as one', async () => {
  const store = new MemoryStore();
  const now = Date.now();
  const times = [10, 9, 8, 7].map((days) => new Date(now - days * DAY_MS));
  const backups = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
  const [proven, ofNewer, nothing, newest] = backups;
  if (proven === undefined || ofNewer === undefined) throw new Error('there are no backups');
  const at = new Date(now);
  const prove = async ({ id }: Manifest, kind: 'verify' | 'drill', proof: object): Promise<void> => {
    await store.putSmall(keys.proof('main', 'shop', id, at, kind), Buffer.from(JSON.stringify(proof)));
  };
  await prove(proven, 'drill', { layout: 1, at: at.toISOString(), passed: true });
  await prove(ofNewer, 'drill', { layout: 2, found: 'something' });
  const request = {
    store,
    filter: {},
    policyOf: () => ({ keep: { last: 1 }, minBackups: 1 }),
    timezone: 'UTC',
    leaseTermMs: 60_000,
    dryRun: false,
    force: true,
  };
  const { plan, removed } = await prune(request, operationContext());
  expect(Object.fromEntries(plan.keep.map(({ id, reasons }) => [id, reasons]))).toEqual({
    [newest?.id ?? '']: expect.arrayContaining(['newest']),
    [ofNewer.id]: ['proof-unread'],
    [proven.id]: ['last-proven', 'drilled'],
  });
  expect(removed.map(({ id }) => id)).toEqual([nothing?.id]);
  const listing = await list({ store, filter: {} }, operationContext());
  expect(listing.backups.find(({ manifest }) => manifest.id === ofNewer.id)?.proofs).toEqual({
    drill: { kind: 'drill', at, passed: 'unknown' },
  });
});

test('the newest backups that a drill has restored stay, however many newer ones were only read', async () => {
  const store = new MemoryStore();
  const now = Date.now();
  const times = [10, 9, 8, 7, 6].map((days) => new Date(now - days * DAY_MS));
  const backups = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
  const prove = async (index: number, kind: 'verify' | 'drill', passed: boolean, hour = 0): Promise<void> => {
    const id = backups[index]?.id;
    if (id === undefined) throw new Error('there is no such backup');
    const at = new Date(now + hour * 3_600_000 + index);
    const proof = JSON.stringify({ layout: 1, at: at.toISOString(), passed });
    await store.putSmall(keys.proof('main', 'shop', id, at, kind), Buffer.from(proof));
  };
  for (const index of [0, 1, 2, 3, 4]) await prove(index, 'verify', true);
  for (const index of [0, 1]) await prove(index, 'drill', true);
  await prove(3, 'drill', false);
  const keptAs = async (reason: KeepReason, keepProven?: number): Promise<readonly string[]> => {
    const policy = { keep: { last: 1 }, minBackups: 1, ...(keepProven === undefined ? {} : { keepProven }) };
    const request = { store, filter: {}, policyOf: () => policy, timezone: 'UTC', leaseTermMs: 60_000 };
    const { plan } = await prune({ ...request, dryRun: true, force: true }, operationContext());
    return plan.keep.filter(({ reasons }) => reasons.includes(reason)).map(({ id }) => id);
  };
  const kept = (keepProven?: number): Promise<readonly string[]> => keptAs('drilled', keepProven);
  expect(await kept()).toEqual([backups[1]?.id]);
  expect(await kept(2)).toEqual([backups[0]?.id, backups[1]?.id]);
  expect(await kept(0)).toEqual([]);
  // What no drill could restore is not proven by being read again; and what rots behind its drill takes no whole one's place.
  await prove(4, 'drill', false);
  await prove(4, 'verify', true, 1);
  expect(await keptAs('last-proven')).toEqual([backups[2]?.id]);
  await prove(1, 'verify', false, 1);
  expect(await kept()).toEqual([backups[0]?.id]);
});

test('the last backup that a drill has restored stays where a later proof of it is torn', async () => {
  const store = new MemoryStore();
  const now = Date.now();
  const times = [9, 8, 7, 6, 5, 4, 3, 2].map((days) => new Date(now - days * DAY_MS));
  const [drilled] = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
  if (drilled === undefined) throw new Error('there are no backups');
  const kept = async (): Promise<unknown> => {
    const request = {
      store,
      filter: {},
      policyOf: () => ({ keep: { last: 6 } }),
      timezone: 'UTC',
      leaseTermMs: 60_000,
    };
    const { plan } = await prune({ ...request, dryRun: true, force: false }, operationContext());
    return plan.keep.find(({ id }) => id === drilled.id)?.reasons;
  };
  const prove = async (at: Date, text: string): Promise<void> => {
    await store.putSmall(keys.proof('main', 'shop', drilled.id, at, 'drill'), Buffer.from(text));
  };
  const passed = new Date(now - 2 * DAY_MS);
  const text = JSON.stringify({ layout: 1, at: passed.toISOString(), passed: true });
  await prove(passed, text);
  expect(await kept()).toEqual(['last-proven', 'drilled']);
  await prove(new Date(now - DAY_MS), text.slice(0, 20));
  expect(await kept()).toEqual(['proof-unread']);
});

test('a backup whose removal had begun is none of those that a prune counts on', async () => {
  const store = new MemoryStore();
  const now = Date.now();
  const times = [5, 4, 3].map((days) => new Date(now - days * DAY_MS));
  const [oldest, dying, newest] = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
  if (dying === undefined) throw new Error('there is no such backup');
  await store.putSmall(keys.deleted(dying.id), serialiseManifest(dying));
  const { plan } = await prune(
    {
      store,
      filter: {},
      policyOf: () => ({ keep: { last: 2 }, minBackups: 1 }),
      timezone: 'UTC',
      leaseTermMs: 60_000,
      dryRun: false,
      force: true,
    },
    operationContext(),
  );
  expect(plan).toMatchObject({ keep: [{ id: oldest?.id }, { id: newest?.id }], remove: [] });
  const left = [...store.objects.keys()].filter((key) => key.startsWith(keys.manifestsPrefix));
  expect(left).toEqual([oldest, newest].map((each) => expect.stringContaining(String(each?.id))));
});

test('a store without room for a lease: the error names what can be deleted by hand, and that is what a prune deletes', async () => {
  const store = new MemoryStore();
  const now = Date.now();
  const times = [5, 4, 3, 2].map((days) => new Date(now - days * DAY_MS));
  const [oldest] = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
  if (oldest === undefined) throw new Error('there is no backup');
  const faulty = new FaultyStore(store);
  const run = (keepLast: number) =>
    prune(
      {
        store: faulty,
        filter: {},
        policyOf: () => ({ keep: { last: keepLast }, minBackups: 1 }),
        timezone: 'UTC',
        leaseTermMs: 60_000,
        dryRun: false,
        force: false,
      },
      operationContext(),
    );
  const full = ({ method, key }: { readonly method: string; readonly key: string }): void => {
    if (method === 'putSmall' && !key.startsWith('.pgark/leases/')) throw new PgarkError('store-full', 'no room');
  };
  const manifest = keys.manifest('main', 'shop', oldest.id);
  const data = oldest.objects[0]?.key ?? '';
  const before = [...store.objects.keys()].filter((key) => !key.startsWith('.pgark/leases/'));
  const named = { code: 'store-full', hint: expect.stringContaining(`${manifest}, then ${data}`) };
  // No room for a lease, and no room for the note of a deletion.
  faulty.faults = {
    before: (call) => (call.key.startsWith('.pgark/leases/') ? full({ ...call, key: '' }) : full(call)),
  };
  await expect(run(3)).rejects.toMatchObject(named);
  faulty.faults = { before: full };
  await expect(run(3)).rejects.toMatchObject(named);
  // What a prune would refuse, or not do, is not advised.
  await expect(run(1)).rejects.toMatchObject({ code: 'prune-refused' });
  faulty.faults = { before: (call) => full({ ...call, key: '' }) };
  await expect(run(1)).rejects.toMatchObject({ code: 'store-full', hint: expect.not.stringContaining(data) });
  await expect(run(4)).rejects.toMatchObject({ hint: expect.stringContaining('retention lets no backup go') });
  expect([...store.objects.keys()].filter((key) => !key.startsWith('.pgark/leases/'))).toEqual(before);
  faulty.faults = {};
  expect((await run(3)).removed.map(({ id }) => id)).toEqual([oldest.id]);
});

describe('where one of two databases would lose more than half', () => {
  async function scene() {
    const store = new MemoryStore();
    const now = Date.now();
    const seed = (database: string, days: readonly number[]): Promise<Manifest[]> => {
      const times = days.map((each) => new Date(now - each * DAY_MS));
      return seedBackups(store, { source: 'main', database, times, withData: true });
    };
    const shop = await seed('shop', [9, 8, 7, 6, 5, 4]);
    const other = await seed('other', [9, 8, 7]);
    const warnings: string[] = [];
    const logger: Logger = {
      ...silentLogger,
      warning: (_event, message) => void warnings.push(message),
      child: () => logger,
    };
    const run = (how: { readonly dryRun: boolean; readonly force: boolean }) =>
      prune(
        {
          store,
          filter: {},
          policyOf: (_source, database) => ({ keep: { last: database === 'shop' ? 3 : 1 }, minBackups: 1 }),
          timezone: 'UTC',
          leaseTermMs: 60_000,
          ...how,
        },
        operationContext({ logger }),
      );
    const left = () => [...store.objects.keys()].filter((key) => key.endsWith('.sql.gz')).length;
    return { run, shop, other, warnings, left };
  }
  const refused = [{ source: 'main', database: 'other', removeCount: 2, totalCount: 3 }];

  test('a prune refuses that one with its name and its counts, and prunes the other', async () => {
    const { run, shop, left, warnings } = await scene();
    const error: unknown = await run({ dryRun: false, force: false }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'prune-refused',
      message:
        'the retention policy would delete 2 of 3 backups of main/other, more than half; none of them was deleted',
      outcome: { refused, removed: shop.slice(0, 3).map(({ id }) => ({ id })) },
    });
    expect(left()).toBe(6);
    expect(warnings).toEqual([]);
  });

  test('a dry run warns of it, and force carries it out', async () => {
    const { run, left, warnings } = await scene();
    expect(await run({ dryRun: true, force: false })).toMatchObject({ refused, removed: [] });
    expect(warnings).toEqual([
      expect.stringMatching(/2 of 3 backups of main\/other, more than half: .*without --force/),
    ]);
    expect(await run({ dryRun: true, force: true })).toMatchObject({ refused: [] });
    expect(warnings).toHaveLength(1);
    expect(left()).toBe(9);
    expect((await run({ dryRun: false, force: true })).removed).toHaveLength(5);
    expect(left()).toBe(4);
  });
});
