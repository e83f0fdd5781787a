import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { HistoryPlace } from '../../test/support/protection.ts';
import { serviceWorld } from '../../test/support/service-world.ts';
import { systemRandom } from '../common/random.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { claimDue } from './claims.ts';
import { lastStarts, lastStartsOfProofs } from './last-starts.ts';
import type { ProofJob } from './proof-jobs.ts';
import { Stores } from './stores.ts';

const HOUR_MS = 3_600_000;
const now = new Date();
const ago = (hours: number): Date => new Date(now.getTime() - hours * HOUR_MS);

/** Backups of the source `shop` were attempted so many hours ago each: when its job is said to have begun last. */
async function lastStartOf(
  patterns: readonly string[] | undefined,
  attempts: readonly (readonly [database: string | undefined, hoursAgo: number, format?: string | undefined])[],
): Promise<Date | undefined> {
  const place = new HistoryPlace(now);
  for (const [database, hours, format] of attempts) {
    await place.run('succeeded', ago(hours), ago(hours - 0.1), { source: 'shop', database, format });
  }
  const { generation } = await serviceWorld({}, { store: place.store });
  const jobs = generation.jobs.map((job) => ({
    ...job,
    source: { ...job.source, ...(patterns && { databases: patterns }) },
  }));
  const { known } = await lastStarts(jobs, generation, new AbortController().signal);
  return known.get('shop/backup')?.at;
}

test('a source with patterns began last when any of the databases did that they choose', async () => {
  const attempts = [
    ['shop', 30],
    ['orders', 7],
    ['stock', 6],
    ['test_stock', 1],
  ] as const;
  expect(await lastStartOf(['*', '!test_*'], attempts)).toEqual(ago(6));
});

test('an attempt that failed before it knew the databases was one of all of them', async () => {
  const attempts = [
    ['orders', 7],
    [undefined, 2],
  ] as const;
  expect(await lastStartOf(['*'], attempts)).toEqual(ago(2));
});

test('a source that is one database began last when that did', async () => {
  const attempts = [
    ['shop', 30],
    ['orders', 7],
  ] as const;
  expect(await lastStartOf(undefined, attempts)).toEqual(ago(30));
});

test.each([
  ['of another format says nothing of the job', 'physical', undefined],
  ['of its own format is its own', 'plain', ago(2)],
  ['that earlier versions recorded may be of any', undefined, ago(2)],
])('an attempt %s', async (_, format, expected) => {
  expect(await lastStartOf(undefined, [['shop', 2, format]])).toEqual(expected);
});

test('nothing is known of databases that the patterns do not choose', async () => {
  expect(await lastStartOf(['orders'], [['shop', 30]])).toBeUndefined();
});

describe('a storage that does not answer', () => {
  const refuses = (): ObjectStore =>
    new FaultyStore(new MemoryStore(), { before: () => Promise.reject(new Error('no route')) });

  /** A job, and a drill, whose claims lie in these storages: what they are said to have begun last. */
  async function startsIn(stores: Readonly<Record<string, ObjectStore>>, clock = new ManualClock(now)) {
    const { generation, config, logger } = await serviceWorld();
    const [job] = generation.jobs;
    const [storage] = config.storages.values();
    if (job === undefined || storage === undefined) throw new Error('there is a job with a storage');
    const storages = Object.keys(stores).map((name) => ({ ...storage, name }));
    const openStore = ({ name }: { readonly name: string }): Promise<ObjectStore> =>
      stores[name] === undefined ? Promise.reject(new Error(name)) : Promise.resolve(stores[name]);
    const world = {
      stores: new Stores({ openStore }, logger),
      context: { ...generation.context, clock },
      logger,
    };
    const stopping = new AbortController().signal;
    const drill: ProofJob = { id: 'shop (drill)', kind: 'drill', source: job.source, schedule: undefined, storages };
    const asking = [
      lastStarts([{ ...job, storages }], world, stopping),
      lastStartsOfProofs([drill], world, stopping),
    ] as const;
    return { asking: Promise.all(asking), clock, logger };
  }

  async function claimed(job: string, at: Date): Promise<MemoryStore> {
    const store = new MemoryStore();
    const who = { host: 'tester', pid: 1, random: systemRandom };
    await claimDue(store, { source: 'shop', job, dueAt: at, spacingMs: 1, resumes: false, now, ...who });
    return store;
  }

  test('leaves unknown what no other one knows', async () => {
    const { asking, logger } = await startsIn({ away: refuses(), near: new MemoryStore() });
    const [jobs, proofs] = await asking;
    expect([jobs.known.size, proofs.known.size]).toEqual([0, 0]);
    expect([[...jobs.unknown], [...proofs.unknown]]).toEqual([['shop/backup'], ['shop (drill)']]);
    expect(logger.events()).toEqual(['schedule.history_unknown', 'schedule.history_unknown']);
  });

  test('leaves known what another one knows, and that nothing is', async () => {
    const [jobs] = await (await startsIn({ away: refuses(), near: await claimed('backup', ago(9)) })).asking;
    expect([jobs.known.get('shop/backup')?.at, jobs.unknown.size]).toEqual([ago(9), 0]);
    const [, proofs] = await (await startsIn({ near: await claimed('(drill)', ago(9)), away: refuses() })).asking;
    expect([proofs.known.get('shop (drill)')?.at, proofs.unknown.size]).toEqual([ago(9), 0]);
    const none = await (await startsIn({ near: new MemoryStore() })).asking;
    expect(none.map(({ known, unknown }) => [known.size, unknown.size])).toEqual([
      [0, 0],
      [0, 0],
    ]);
  });

  function hanging(): MemoryStore {
    const hangs = new MemoryStore();
    hangs.get = (_key, options) =>
      new Promise((_, reject) => {
        const signal = options?.signal;
        if (signal?.aborted === true) reject(signal.reason as Error);
        signal?.addEventListener('abort', () => reject(signal.reason as Error));
      });
    return hangs;
  }

  test('is waited for no longer than ten seconds', async () => {
    const { asking, clock } = await startsIn({ hangs: hanging() });
    await clock.advance(10_000);
    expect((await asking).map(({ unknown }) => unknown.size)).toEqual([1, 1]);
  });

  test('keeps no other one from being asked', async () => {
    const near = await claimed('(drill)', ago(9));
    const get = near.get.bind(near);
    near.get = (key, options) => (options?.signal?.throwIfAborted(), get(key, options));
    const { asking, clock } = await startsIn({ hangs: hanging(), near });
    await clock.advance(10_000);
    const [, { known, unknown }] = await asking;
    expect([known.get('shop (drill)')?.at, unknown.size]).toEqual([ago(9), 0]);
  });
});
