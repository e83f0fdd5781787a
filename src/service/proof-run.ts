import { asPgarkError, isPgarkError, messageOf, PgarkError } from '../common/errors.ts';
import { withRetries } from '../common/retry.ts';
import type { Config, StorageConfig } from '../config/model.ts';
import type { OperationContext } from '../operations/context.ts';
import type { RecoveryRequest } from '../operations/restore-directory.ts';
import { DueClaim } from './due-claim.ts';
import type { DrillRun } from './drill-run.ts';
import { type DrillSeries, drillSeriesIn, inTurn, type TriedSeries } from './drill-series.ts';
import { recordUnverified } from './early-failure.ts';
import { gravest } from './gravest.ts';
import { canPass } from './passing-errors.ts';
import { claimNameOf, hasKeysFor, type ProofJob } from './proof-jobs.ts';
import type { Fired, RunNews } from './scheduler.ts';
import type { Slots } from './slots.ts';
import type { Stores } from './stores.ts';
import type { Teller } from './tell.ts';
import type { VerifiedLines } from './verified-lines.ts';

/** What proofs are carried out with. */
export interface ProofWorld {
  readonly config: Config;
  readonly stores: Stores;
  readonly context: OperationContext;
  readonly teller: Teller;
  /** What this process has drilled; it lives as long as that. */
  readonly tried: TriedSeries;
  /** What it has found whole. Default: nobody asks. */
  readonly verified?: VerifiedLines | undefined;
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

/**
 * Of each kind of backups that there is, the series that has waited for the longest and can be tried here. A storage that is away is told
 * of, and the others are not kept waiting for it.
 */
async function drillSource(job: ProofJob, world: ProofWorld): Promise<PgarkError | undefined> {
  const { source } = job;
  const { config, context, teller, tried } = world;
  const { logger } = context;
  const failures: PgarkError[] = [];
  const conclude = async ({ error, report }: Pick<DrillRun, 'error' | 'report'>): Promise<void> => {
    if (error !== undefined) {
      failures.push(error);
      const fields = { job: job.id, code: error.code, hint: error.hint };
      logger.error('drill.failed', `${job.id}: ${error.message}; ${error.hint}`, fields);
    }
    if (report !== undefined) await teller.drill(config, report);
  };
  const series: DrillSeries[] = [];
  for (const storage of job.storages) {
    try {
      series.push(...(await withRetries(() => drillSeriesIn(source.name, storage, world), retrying(world))));
    } catch (thrown) {
      context.signal.throwIfAborted();
      const error = asPgarkError(thrown);
      const about = { source: source.name, storage: storage.name, endedAt: context.clock.now() };
      await conclude({ error, report: { ...about, ...UNKNOWN, error } });
    }
  }
  if (series.length === 0 && failures.length === 0) {
    logger.warning('drill.nothing', `${job.id}: there is no backup of ${source.name} to try yet`, { job: job.id });
  }
  for (const kind of ['physical', 'logical'] as const) {
    const ofKind = series.filter((one) => one.kind === kind);
    for (const each of inTurn(ofKind, tried, context.random)) {
      const drilled = await drillNewest(each, job, world);
      if (drilled === undefined) continue;
      await conclude(drilled);
      // What cannot be tried stays the one that has waited for the longest, and must not keep the others waiting for ever.
      if (!drilled.hasProven) continue;
      tried.note(each, context.clock.now());
      break;
    }
  }
  return gravest(failures);
}

/** So often another backup is tried where the one before was deleted meanwhile. */
const BACKUPS_MAX = 3;

/**
 * Tries the newest backup of a series, or a random one, as it is configured. Where retention deletes it meanwhile, the next one takes its
 * place: that is no failure of anybody's. Undefined where none is left.
 */
async function drillNewest(
  { storage, database, kind }: DrillSeries,
  { id, source }: ProofJob,
  world: ProofWorld,
): Promise<DrillRun | undefined> {
  const { config, stores, context, fetchFrom } = world;
  const { runDrill } = await import('./drill-run.ts');
  const work = async (): Promise<DrillRun> => {
    const store = await stores.open(storage);
    const order = {
      store,
      storage: storage.name,
      filter: { source: source.name, database, kind },
      selector: { kind: source.drill?.point ?? 'latest' },
      keys: config.decryptionKeys,
      fetch: fetchFrom?.(storage),
    } as const;
    return runDrill(source, order, context);
  };
  for (let tried = 1; ; tried += 1) {
    const drilled = await retried(work, world);
    const { error, report } = drilled;
    if (error?.code !== 'backup-not-found') return drilled;
    const isLeft = report?.backupId !== undefined;
    if (isLeft && tried === BACKUPS_MAX) return drilled;
    const what = isLeft ? 'another one is tried' : `there is no backup of ${database} in ${storage.name} any more`;
    context.logger.info('drill.deleted', `${id}: ${error.message}; ${what}`, { job: id, storage: storage.name });
    if (!isLeft) return undefined;
  }
}

/** Of a drill that did not get to a backup. */
const UNKNOWN = { database: undefined, kind: undefined, backupId: undefined, runId: undefined };

async function verifySource(job: ProofJob, world: ProofWorld): Promise<PgarkError | undefined> {
  const { id, source, storages } = job;
  const { config, stores, context, teller } = world;
  const { logger } = context;
  const { failuresIn, verify } = await import('../operations/verify.ts');
  const sampleRatio = source.verify?.sampleRatio ?? 1;
  const failures: PgarkError[] = [];
  let looked = 0;
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
              ownSources: new Set(hasKeysFor(config, source) ? [source.name] : []),
            },
            context,
          ),
        retrying(world),
      );
      const report = { storage: storage.name, endedAt: context.clock.now(), backups, damaged, complete: true };
      world.verified?.note(storage.name, backups, report.endedAt);
      await teller.verification(config, report);
      looked += backups.length + damaged.length;
      failures.push(...failuresIn({ backups, damaged }));
    } catch (thrown) {
      context.signal.throwIfAborted();
      const error = unverified(storage, asPgarkError(thrown));
      failures.push(error);
      logger.error('verify.failed', `${id}: ${error.message}; ${error.hint}`, { code: error.code });
      await recordUnverified(job, storage, error, world);
      await teller.unverified(config, {
        source: source.name,
        storage: storage.name,
        endedAt: context.clock.now(),
        error,
      });
    }
  }
  if (looked === 0 && failures.length === 0) {
    logger.warning('verify.nothing', `${id}: there is no backup of ${source.name} to verify yet`, { job: id });
  }
  return gravest(failures);
}

/** What kept the backups in a storage from being looked at says nothing of them, and nobody has looked at them. */
function unverified({ name }: StorageConfig, cause: PgarkError): PgarkError {
  const what = `the backups in ${name} could not be verified: ${cause.message}`;
  return new PgarkError(cause.code, what, { cause, hint: cause.hint, details: cause.details });
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
