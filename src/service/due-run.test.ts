import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { serviceWorld } from '../../test/support/service-world.ts';
import { systemRandom } from '../common/random.ts';
import { errorTable, type ErrorCode } from '../common/error-table.ts';
import { PgarkError } from '../common/errors.ts';
import type { StorageConfig } from '../config/model.ts';
import { keys } from '../repository/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { claimDue, lastClaimed } from './claims.ts';
import { type DueRunOptions, runDue } from './due-run.ts';
import type { JobReport } from './job-report.ts';
import { canPass } from './passing-errors.ts';
import type { Fired, RunNews } from './scheduler.ts';
import { Stores } from './stores.ts';
import { Turns } from './turns.ts';

const KEY = { source: 'shop', job: 'backup' };
const QUICK = { retriesMax: 2, delayMs: 20, delayMsMax: 1_000 };

/** Carries out a due time of a database that nobody can reach. */
async function run(
  options: {
    readonly change?: Partial<DueRunOptions>;
    readonly fired?: Partial<Fired>;
    readonly store?: MemoryStore;
    readonly onReport?: () => void;
    readonly env?: Readonly<Record<string, string>>;
  } = {},
) {
  const reports: JobReport[] = [];
  const { generation, logger, store } = await serviceWorld(options.env, options.store && { store: options.store });
  const [job] = generation.jobs;
  if (job === undefined) throw new Error('there is one job');
  const fired = { id: job.id, dueAt: new Date(), nextFireAt: undefined, resumes: false, ...options.fired };
  let runs = 0;
  const news: RunNews = await runDue(job, fired, {
    world: generation.world({
      onRunEnded: (report) => {
        reports.push(report);
        options.onReport?.();
        throw new Error('a listener that fails');
      },
    }),
    turns: new Turns(1),
    retry: QUICK,
    stopping: new AbortController().signal,
    nextRunNumber: () => (runs += 1),
    ...options.change,
  });
  return { news, reports, logger, store, fired };
}

describe('a run that failed', () => {
  test('is tried again as often as the policy says, after pauses that double, and is told of each time', async () => {
    const { reports, logger } = await run();
    expect(logger.events().filter((event) => event === 'job.started')).toHaveLength(3);
    const pauses = reports.map(({ nextTryAt, endedAt }) => nextTryAt && nextTryAt.getTime() - endedAt.getTime());
    expect(pauses).toEqual([20, 40, undefined]);
    expect(reports.map(({ results }) => results[0]?.error?.code)).toEqual(Array(3).fill('postgres-unreachable'));
    expect(logger.events()).toContain('listener.failed');
  });

  test('is not tried again beyond the next due time', async () => {
    const soon = new Date(Date.now() + 10);
    const { reports } = await run({
      fired: { nextFireAt: soon },
      change: { retry: { ...QUICK, delayMs: 60_000, delayMsMax: 60_000 } },
    });
    expect(reports).toHaveLength(1);
    expect(reports[0]?.nextTryAt).toBeUndefined();
  });

  test('is not tried again for what only a person can mend', () => {
    const codes = Object.keys(errorTable) as ErrorCode[];
    const stay: readonly ErrorCode[] = codes.filter((code) => !canPass(new PgarkError(code, 'x')));
    expect(stay).toEqual(
      expect.arrayContaining([
        'config-invalid',
        'store-credentials-rejected',
        'store-access-denied',
        'store-bucket-missing',
        'postgres-auth-failed',
        'postgres-privileges',
        'postgres-database-missing',
        'client-missing',
        'key-invalid',
        'locked',
        'interrupted',
        'internal',
      ]),
    );
  });

  test('gives its slot to others while it waits, and no slot to itself while there is none', async () => {
    const turns = new Turns(1);
    const order: string[] = [];
    const { generation } = await serviceWorld({
      PGDATABASE: 'shop',
      DATABASE_URL: '',
      PGHOST: 'elsewhere',
      PGUSER: 'u',
    });
    const [job] = generation.jobs;
    if (job === undefined) throw new Error('there is one job');
    const first = run({ change: { turns, retry: { ...QUICK, retriesMax: 1, delayMs: 200 } } });
    const others = (async () => {
      for (let index = 0; index < 3; index += 1) {
        await turns.within(job, new AbortController().signal, async () => void order.push('other'));
      }
    })();
    await Promise.race([first, others.then(() => order.push('others done'))]);
    expect(order.at(-1)).toBe('others done');
    await first;
  });

  test('is tried no more once it is time to stop', async () => {
    const stopping = new AbortController();
    const running = run({
      onReport: () => setImmediate(() => stopping.abort(new Error('stop'))),
      change: { stopping: stopping.signal, retry: { ...QUICK, delayMs: 60_000, delayMsMax: 60_000 } },
    });
    const { reports, logger, store, fired } = await running;
    expect(reports).toHaveLength(1);
    expect(logger.events().at(-1)).toBe('job.not_begun');
    // The next start does it: its claim stays open.
    expect(await lastClaimed(store, KEY)).toEqual({ at: fired.dueAt, isOpen: true });
  });
});

describe('a due time', () => {
  test('that another host has begun is skipped, and the scheduler learns of it', async () => {
    const store = new MemoryStore();
    const dueAt = new Date();
    const claim = {
      ...KEY,
      dueAt,
      spacingMs: 1,
      resumes: false,
      now: dueAt,
      host: 'other',
      pid: 7,
      random: systemRandom,
    };
    await claimDue(store, claim);
    const { news, reports, logger } = await run({ store, fired: { dueAt } });
    expect(news).toEqual({ last: dueAt });
    expect(reports).toEqual([]);
    expect(logger.logged.at(-1)).toMatchObject({ level: 'info', event: 'job.skipped' });
    expect(logger.logged.at(-1)?.message).toContain('other (pid 7)');
  });

  test('is claimed in the next storage where the first one gives no answer', async () => {
    const clock = new ManualClock(new Date());
    const { generation, logger, store } = await serviceWorld();
    const [job] = generation.jobs;
    const [near] = job?.storages ?? [];
    if (job === undefined || near === undefined) throw new Error('there is one job, with one storage');
    const asked = Promise.withResolvers<void>();
    const silent = new MemoryStore();
    const get = silent.get.bind(silent);
    silent.get = async (key, options) => {
      if (key !== keys.schedule(KEY.source, KEY.job)) return get(key, options);
      asked.resolve();
      return new Promise((_, reject) => {
        options?.signal?.addEventListener('abort', () => reject(options.signal?.reason));
      });
    };
    const openStore = ({ name }: StorageConfig): Promise<ObjectStore> =>
      Promise.resolve(name === 'far' ? silent : store);
    const dueAt = clock.now();
    const running = runDue(
      { ...job, storages: [{ ...near, name: 'far' }, near] },
      { id: job.id, dueAt, nextFireAt: undefined, resumes: false },
      {
        world: {
          ...generation.world(undefined),
          stores: new Stores({ openStore }, logger),
          context: { ...generation.context, clock },
        },
        turns: new Turns(1),
        retry: { ...QUICK, retriesMax: 0 },
        stopping: new AbortController().signal,
        nextRunNumber: () => 1,
      },
    );
    await asked.promise;
    expect(logger.events()).not.toContain('job.started');
    await clock.advance(10_000);
    await running;
    expect(await lastClaimed(store, KEY)).toEqual({ at: dueAt, isOpen: false });
    expect(logger.logged.find(({ event }) => event === 'schedule.claim_failed')).toMatchObject({
      fields: { storage: 'far' },
      message: expect.stringContaining('no answer within 10 s'),
    });
  });

  test('is ended in the storage when its run is over', async () => {
    const { store, fired } = await run({ change: { retry: { ...QUICK, retriesMax: 0 } } });
    expect(await lastClaimed(store, KEY)).toEqual({ at: fired.dueAt, isOpen: false });
  });
});
