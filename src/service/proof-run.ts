import { asPgarkError, isPgarkError, messageOf, type PgarkError } from '../common/errors.ts';
import { withRetries } from '../common/retry.ts';
import type { Config, StorageConfig } from '../config/model.ts';
import type { OperationContext } from '../operations/context.ts';
import type { RecoveryRequest } from '../operations/restore-directory.ts';
import { DueClaim } from './due-claim.ts';
import type { DrillRun } from './drill-run.ts';
import { type DrillSeries, drillSeriesOf, inTurn } from './drill-series.ts';
import { gravest } from './gravest.ts';
import { canPass } from './passing-errors.ts';
import { claimNameOf, type ProofJob } from './proof-jobs.ts';
import type { Fired, RunNews } from './scheduler.ts';
import type { Slots } from './slots.ts';
import type { Stores } from './stores.ts';
import type { Teller } from './tell.ts';

/** What proofs are carried out with. */
export interface ProofWorld {
  readonly config: Config;
  readonly stores: Stores;
  readonly context: OperationContext;
  readonly teller: Teller;
  /** How a server that is restored from a storage gets archived WAL. Default: not at all. */
  readonly fetchFrom?: ((storage: StorageConfig) => RecoveryRequest['fetch']) | undefined;
}

export interface DueProofOptions {
  readonly world: ProofWorld;
  /** One at a time, apart from backups: these are never late for a drill that takes hours. */
  readonly slots: Slots;
  /** Aborted: nothing begins any more. */
  readonly stopping: AbortSignal;
}

/** Carries out a proof that is due, on one host of all. Never rejects: everything is logged and told, and interrupted, it ends. */
export async function runDueProof(
  job: ProofJob,
  fired: Fired,
  { world, slots, stopping }: DueProofOptions,
): Promise<RunNews> {
  const { logger, signal } = world.context;
  const claim = new DueClaim({ ...job, source: job.source.name, job: claimNameOf(job.kind) }, fired, world);
  try {
    return await slots.within(stopping, async () => {
      const taken = await claim.take();
      if (taken !== undefined) return { last: taken.dueAt };
      logger.info('job.started', job.id, { job: job.id, dueAt: fired.dueAt.toISOString() });
      const error = await runProof(job, world);
      await claim.end();
      if (error === undefined) logger.success('job.succeeded', `${job.id} done`, { job: job.id });
      return {};
    });
  } catch (error) {
    if (stopping.aborted && !signal.aborted)
      logger.info('job.not_begun', `${job.id} is due and is left to the next start`);
    else if (signal.aborted) logger.warning('job.interrupted', `${job.id} was interrupted; nothing of it was kept`);
    else logger.error('job.failed', `${job.id}: ${messageOf(error)}`, { job: job.id });
    return {};
  }
}

/**
 * Resolves with the gravest of what was wrong. What it needs is loaded for it only: a daemon that waits keeps its memory. Rejects only with the
 * reason of the context's signal.
 */
export async function runProof(job: ProofJob, world: ProofWorld): Promise<PgarkError | undefined> {
  return job.kind === 'drill' ? drillSource(job, world) : verifySource(job, world);
}

/** Of each kind of backups that there is, the series that has waited for the longest and can be tried here. */
async function drillSource(job: ProofJob, world: ProofWorld): Promise<PgarkError | undefined> {
  const { source } = job;
  const { config, stores, context, teller, fetchFrom } = world;
  const { logger } = context;
  const { runDrill } = await import('./drill-run.ts');
  const failures: PgarkError[] = [];
  const conclude = async ({ error, report }: Pick<DrillRun, 'error' | 'report'>): Promise<void> => {
    if (error !== undefined) {
      failures.push(error);
      const fields = { job: job.id, code: error.code, hint: error.hint };
      logger.error('drill.failed', `${job.id}: ${error.message}; ${error.hint}`, fields);
    }
    if (report !== undefined) await teller.drill(config, report);
  };
  const series = await seriesOf(job, world).catch(async (thrown: unknown) => {
    context.signal.throwIfAborted();
    const error = asPgarkError(thrown);
    const [storage] = job.storages;
    const about = { source: source.name, storage: storage?.name ?? '', endedAt: context.clock.now() };
    await conclude({ error, report: { ...about, ...UNKNOWN, error } });
    return undefined;
  });
  if (series?.length === 0) {
    logger.warning('drill.nothing', `${job.id}: there is no backup of ${source.name} to try yet`, { job: job.id });
  }
  for (const kind of ['physical', 'logical'] as const) {
    for (const { storage, database } of inTurn((series ?? []).filter((each) => each.kind === kind))) {
      const order = {
        store: await stores.open(storage),
        storage: storage.name,
        filter: { source: source.name, database, kind },
        selector: { kind: source.drill?.point ?? 'latest' },
        keys: config.decryptionKeys,
        fetch: fetchFrom?.(storage),
      } as const;
      const drilled = await retried(() => runDrill(source, order, context), world);
      await conclude(drilled);
      // What cannot be tried stays the one that has waited for the longest, and must not keep the others waiting for ever.
      if (drilled.hasProven) break;
    }
  }
  return gravest(failures);
}

/** Of a drill that did not get to a backup. */
const UNKNOWN = { database: undefined, kind: undefined, backupId: undefined, runId: undefined };

function seriesOf({ source, storages }: ProofJob, world: ProofWorld): Promise<readonly DrillSeries[]> {
  return withRetries(() => drillSeriesOf(source.name, storages, world), retrying(world));
}

async function verifySource({ id, source, storages }: ProofJob, world: ProofWorld): Promise<PgarkError | undefined> {
  const { config, stores, context, teller } = world;
  const { logger } = context;
  const { verify } = await import('../operations/verify.ts');
  const sampleRatio = source.verify?.sampleRatio ?? 1;
  const failures: PgarkError[] = [];
  for (const storage of storages) {
    try {
      const { backups, damaged } = await withRetries(
        async () =>
          verify(
            {
              store: await stores.open(storage),
              filter: { source: source.name },
              selector: undefined,
              deep: sampleRatio >= 1,
              sampleRatio,
              keys: config.decryptionKeys,
            },
            context,
          ),
        retrying(world),
      );
      const report = { storage: storage.name, endedAt: context.clock.now(), backups, damaged, complete: true };
      await teller.verification(config, report);
      failures.push(...backups.flatMap(({ failure }) => failure ?? []), ...damaged.map(({ error }) => error));
    } catch (thrown) {
      context.signal.throwIfAborted();
      const error = asPgarkError(thrown);
      failures.push(error);
      logger.error('verify.failed', `${id} in ${storage.name}: ${error.message}; ${error.hint}`, { code: error.code });
    }
  }
  return gravest(failures);
}

/** A storage that was away for a moment is no reason to wait until the next time. */
async function retried<T extends { readonly error: PgarkError | undefined }>(
  work: () => Promise<T>,
  world: ProofWorld,
): Promise<T> {
  let last: T | undefined;
  try {
    return await withRetries(async () => {
      last = await work();
      if (last.error !== undefined) throw last.error;
      return last;
    }, retrying(world));
  } catch (error) {
    world.context.signal.throwIfAborted();
    if (last === undefined) throw error;
    return last;
  }
}

function retrying({ config, context: { clock, random, signal } }: ProofWorld) {
  return {
    policy: config.retry,
    clock,
    random,
    signal,
    isRetryable: (error: unknown) => isPgarkError(error) && error.code.startsWith('store-') && canPass(error),
  };
}
