import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { errorOf } from '../../test/support/destinations.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { seedBackups } from '../../test/support/seed.ts';
import type { Clock } from '../common/clock.ts';
import { PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { parseLsn } from '../postgres/wal/lsn.ts';
import type { Manifest } from '../repository/manifest.ts';
import { operationContext } from './context.ts';
import { type FindIn, findAcross, finding, type Place, ruleOf } from './find-across.ts';

const context = operationContext();
const MINUTE_MS = 60_000;
const minutesAgo = (minutes: number): Date => new Date(Math.floor(Date.now() / 1_000) * 1_000 - minutes * MINUTE_MS);
const unreachable = new PgarkError('store-unreachable', 'nobody answers');

interface TestPlace extends Place {
  readonly backups: readonly Manifest[];
}

/** A storage with backups of these ages; or one that is away. */
async function place(name: string, ages: readonly number[] | 'away', database = 'shop'): Promise<TestPlace> {
  if (ages === 'away') return { name, backups: [], open: () => Promise.reject(unreachable) };
  const store = new MemoryStore();
  const backups = await seedBackups(store, { source: database, database, times: ages.map(minutesAgo) });
  return { name, backups, open: async () => store };
}

/** A storage with one backup; its own clock is this machine's, as where it is in files. */
async function dated(
  name: string,
  time: Date,
  { storeTime, clock }: { readonly storeTime?: Date; readonly clock?: Clock } = {},
): Promise<Place> {
  const store = new MemoryStore(clock && { clock });
  const times = [time];
  await seedBackups(store, { source: 'shop', database: 'shop', times, ...(storeTime && { storeTime }) });
  return { name, open: async () => store };
}

/** Which storage has the newest, and what is said of clocks. */
async function newestOf(places: readonly Place[], clock?: Clock) {
  const warnings: string[] = [];
  const warning = (_: string, message: string): void => void warnings.push(message);
  const own = operationContext({ logger: { ...silentLogger, warning }, ...(clock && { clock }) });
  return { name: (await findAcross(places, latest, newest, own)).chosen.name, warnings };
}

const latest = finding({ kind: 'latest' }, {});
/** As whoever looks for it no more, and is told here of clocks. */
const newest = { ...ruleOf({ kind: 'latest' }), isLookedForAgain: false };
const named = ruleOf({ kind: 'name' });

describe('the newest of several storages', () => {
  test('is the newest of those that answer, and the others are told of', async () => {
    const ages = fc.oneof(
      fc.constant('away' as const),
      fc.uniqueArray(fc.integer({ min: 1, max: 1_000 }), { minLength: 0, maxLength: 3 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(ages, { minLength: 1, maxLength: 4 }), async (all) => {
        const places = await Promise.all(all.map((each, index) => place(`s${index}`, each)));
        const youngest = Math.min(...all.flatMap((each) => (each === 'away' ? [] : each)));
        const finds = findAcross(places, latest, newest, context);
        if (youngest === Number.POSITIVE_INFINITY) {
          expect((await errorOf(finds)).code).toBe(all.includes('away') ? 'store-unreachable' : 'backup-not-found');
          return;
        }
        const { chosen, others, passedOver } = await finds;
        const first = all.findIndex((each) => each !== 'away' && each.includes(youngest));
        expect(chosen).toMatchObject({ name: `s${first}`, found: { manifest: { startedAt: expect.any(String) } } });
        const isNewest = places[first]?.backups.some(
          ({ id }) => chosen.found.kind === 'own' && id === chosen.found.manifest.id,
        );
        expect(isNewest).toBe(true);
        const nameAll = (wanted: (each: (typeof all)[number]) => boolean): string[] =>
          all.flatMap((each, index) => (wanted(each) ? [`s${index}`] : []));
        expect(passedOver.map(({ name }) => name)).toEqual(nameAll((each) => each === 'away'));
        expect([chosen, ...others].map(({ name }) => name).toSorted()).toEqual(
          nameAll((each) => each !== 'away' && each.length > 0),
        );
      }),
      { numRuns: 60 },
    );
  });

  test('is none that was stored before the time in its name, where there is another; else the one stored last', async () => {
    const right = await dated('right', minutesAgo(500));
    const near = await dated('near', minutesAgo(-10_000), { storeTime: minutesAgo(300) });
    const far = await dated('far', minutesAgo(-20_000), { storeTime: minutesAgo(200) });
    expect(await newestOf([near, right, far])).toEqual({
      name: 'right',
      warnings: [
        expect.stringMatching(/ in near claims to begin in the future.* That in right counts as newer/),
        expect.stringMatching(/ in far claims to begin in the future.* That in right counts as newer/),
      ],
    });
    const { name, warnings } = await newestOf([near, far]);
    expect(name).toBe('far');
    expect(warnings).toEqual([
      expect.stringMatching(/ in far claims to begin in the future.* since there is no other/),
    ]);
  });

  test.each([
    ['right', '2026-11-28T00:00:00Z', []],
    ['behind the newest', '2026-11-01T00:00:00Z', [expect.stringContaining('2026-11-01T00:00:00.000Z')]],
    ['behind all', '2020-01-01T00:00:00Z', [expect.stringContaining('in b begins in the future')]],
  ])('is the same where the clock of this machine is %s', async (_, now, warnings) => {
    const clock = new ManualClock(new Date(now));
    const a = await dated('a', new Date('2026-10-20T02:00:00Z'), { clock });
    const b = await dated('b', new Date('2026-11-27T02:00:00Z'), { clock });
    for (const places of [
      [a, b],
      [b, a],
    ])
      expect(await newestOf(places, clock)).toEqual({ name: 'b', warnings });
  });

  test('is told of once where it is looked for again to be taken: with what its own storage has to say', async () => {
    const clock = new ManualClock(new Date('2026-11-01T00:00:00Z'));
    const near = await dated('near', new Date('2026-11-27T02:00:00Z'), { clock });
    const far = await dated('far', new Date('2026-10-20T02:00:00Z'), { clock });
    const warnings: string[] = [];
    const warning = (_: string, message: string): void => void warnings.push(message);
    const own = operationContext({ logger: { ...silentLogger, warning }, clock });
    const { chosen } = await findAcross([far, near], latest, ruleOf({ kind: 'latest' }), own);
    await latest(chosen.store, own);
    expect(warnings).toEqual([expect.stringContaining('begins in the future by this machine')]);
  });

  test('is of one database', async () => {
    const places = [await place('a', [1]), await place('b', [2], 'desk')];
    expect(await errorOf(findAcross(places, latest, newest, context))).toMatchObject({
      code: 'usage',
      message: 'the storages have different backups that this may mean: backups of shop in a; backups of desk in b',
    });
  });
});

test('a name that each storage has for another backup is not guessed', async () => {
  const [a, b] = [await place('a', [1]), await place('b', [2])];
  const find: FindIn = async (store) => {
    const manifest = (store === (await a.open()) ? a : b).backups[0];
    if (manifest === undefined) throw new Error('each has one');
    return { kind: 'own', manifest };
  };
  const error = await errorOf(findAcross([a, b], find, named, context));
  expect(error).toMatchObject({ code: 'usage', hint: expect.stringContaining('--storage a | b') });
});

test('what one storage finds unclear is unclear, whatever another one has', async () => {
  const places = [await place('a', [1]), await place('b', [2])];
  const usage = new PgarkError('usage', 'there are backups of 2 databases');
  const store = await places[1]?.open();
  const find: FindIn = (each, own) => (each === store ? Promise.reject(usage) : latest(each, own));
  expect(await errorOf(findAcross(places, find, newest, context))).toBe(usage);
});

describe('where a server is recovered from', () => {
  /** Each storage has one base backup, of these ages, and leads to these positions. */
  async function across(
    takes: 'first' | 'furthest',
    rows: readonly { age: number; timeline: number; lsn: string; system?: string }[],
    own = context,
  ): Promise<string> {
    const places = await Promise.all(rows.map(({ age }, index) => place(`s${index}`, [age])));
    const stores = await Promise.all(places.map((each) => each.open()));
    const find: FindIn = async (store) => {
      const index = stores.indexOf(store);
      const row = rows[index];
      const manifest = places[index]?.backups[0];
      if (row === undefined || manifest === undefined) throw new Error('each has one');
      const server = { ...manifest.server, systemIdentifier: row.system ?? '1' };
      const reach = { timeline: row.timeline, lsn: parseLsn(row.lsn) };
      return { kind: 'own', manifest: { ...manifest, server }, reach };
    };
    return (await findAcross(places, find, { isNamed: false, takes, isLookedForAgain: true }, own)).chosen.name;
  }

  test.each([
    [
      'the furthest position',
      's1',
      [
        { age: 1, timeline: 1, lsn: '0/5000000' },
        { age: 9, timeline: 1, lsn: '0/9000000' },
      ],
    ],
    [
      'the newest timeline',
      's1',
      [
        { age: 1, timeline: 1, lsn: '0/9000000' },
        { age: 9, timeline: 2, lsn: '0/5000000' },
      ],
    ],
    [
      'the server that was backed up last',
      's0',
      [
        { age: 1, timeline: 1, lsn: '0/5000000', system: '2' },
        { age: 9, timeline: 7, lsn: '0/9000000' },
      ],
    ],
    [
      'the first of two alike',
      's0',
      [
        { age: 9, timeline: 1, lsn: '0/5000000' },
        { age: 1, timeline: 1, lsn: '0/5000000' },
      ],
    ],
  ])('is, to the end, %s', async (_, name, rows) => {
    expect(await across('furthest', rows)).toBe(name);
  });

  test('is, to a moment, the first on the newest timeline of the same server', async () => {
    const rows = [
      { age: 9, timeline: 1, lsn: '0/9000000', system: 'old' },
      { age: 5, timeline: 1, lsn: '0/5000000' },
      { age: 1, timeline: 1, lsn: '0/6000000' },
    ];
    expect(await across('first', rows)).toBe('s1');
    const promoted = { age: 3, timeline: 2, lsn: '0/5000000' };
    expect(await across('first', [...rows, promoted, promoted])).toBe('s3');
  });

  test('is the server that was backed up last, also where the clock of this machine is behind', async () => {
    const rows = [
      { age: 9, timeline: 1, lsn: '0/9000000', system: 'old' },
      { age: 1, timeline: 1, lsn: '0/5000000' },
    ];
    const clock = new ManualClock(minutesAgo(1_000));
    for (const takes of ['first', 'furthest'] as const)
      expect(await across(takes, rows, operationContext({ clock }))).toBe('s1');
  });
});
