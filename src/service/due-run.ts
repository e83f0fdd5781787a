import { asPgarkError, type PgarkError } from '../common/errors.ts';
import type { RetryConfig } from '../config/model.ts';
import { DueClaim } from './due-claim.ts';
import { type JobReport, type JobResult, stateOf } from './job-report.ts';
import type { Job } from './jobs.ts';
import { canPass } from './passing-errors.ts';
import { type JobRequest, type JobWorld, runJob } from './run-job.ts';
import type { Fired, RunNews } from './scheduler.ts';
import type { Turns } from './turns.ts';

/** Doublings beyond this are at the policy's longest pause in any case. */
const DOUBLINGS_MAX = 40;

export interface DueRunOptions {
  readonly world: JobWorld;
  /** Shared by all jobs. A run that waits for its next try holds none. */
  readonly turns: Turns;
  readonly retry: RetryConfig;
  /** Aborted: nothing begins any more, neither what waits for a slot nor a further try. What runs goes on. */
  readonly stopping: AbortSignal;
  /** Counts the runs of this process, for the log. */
  readonly nextRunNumber: () => number;
}

/**
 * Carries out what is due: claims the due time, so that no other host does it too, runs the job, and tries again what
 * failed and can pass, as the policy says and never beyond the next due time. Never rejects: everything is logged, and
 * interrupted, it ends.
 */
export async function runDue(job: Job, fired: Fired, options: DueRunOptions): Promise<RunNews> {
  const { context } = options.world;
  try {
    return await new DueRun(job, fired, options).run();
  } catch (error) {
    const { logger, signal } = context;
    if (options.stopping.aborted && !signal.aborted) {
      logger.info('job.not_begun', `${job.id} is due and is left to the next start`, { job: job.id });
    } else if (signal.aborted) {
      logger.warning('job.interrupted', `${job.id} was interrupted; nothing half-done was kept`, { job: job.id });
    } else {
      logFailure(job, asPgarkError(error), options.world);
    }
    return {};
  }
}

/** What of a job an attempt is about. */
type Part = Required<Pick<JobRequest, 'storages'>> & Pick<JobRequest, 'retried' | 'standing'>;

class DueRun {
  readonly #job: Job;
  readonly #fired: Fired;
  readonly #options: DueRunOptions;
  /** Attempts that failed in a way that can pass. */
  #failures = 0;
  readonly #claim: DueClaim;

  constructor(job: Job, fired: Fired, options: DueRunOptions) {
    this.#job = job;
    this.#fired = fired;
    this.#options = options;
    const { id, source, settings, storages } = job;
    const { name, connection } = source;
    const claimable = { id, source: name, job: settings.name, schedule: settings.schedule, storages, connection };
    this.#claim = new DueClaim(claimable, fired, options.world);
  }

  async run(): Promise<RunNews> {
    const { world, turns, stopping } = this.#options;
    const { clock } = world.context;
    let part: Part = { storages: this.#job.storages };
    for (let attempt = 1; ; attempt += 1) {
      const report = await turns.within(this.#job, stopping, () => this.#attempt(attempt, part));
      if ('last' in report) return report;
      if (report.nextTryAt === undefined) {
        await this.#claim.end();
        return {};
      }
      await clock.sleep(Math.max(0, report.nextTryAt.getTime() - clock.now().getTime()), stopping);
      const retried = report.results.filter((result) => this.#isAgain(result));
      const storages = new Set(retried.map(({ storage }) => storage));
      part = {
        storages: this.#job.storages.filter(({ name }) => storages.has(name)),
        retried,
        standing: [...report.standing, ...report.results.filter((result) => !retried.includes(result))],
      };
    }
  }

  async #attempt(attempt: number, part: Part): Promise<JobReport | Required<RunNews>> {
    const { world, nextRunNumber } = this.#options;
    const { logger } = world.context;
    const { id, settings } = this.#job;
    const taken = await this.#claim.take();
    if (taken !== undefined) return { last: taken.dueAt };
    const run = nextRunNumber();
    const again = attempt === 1 ? '' : `, attempt ${attempt}`;
    logger.info('job.started', `run ${run}: ${id}${again}`, {
      job: id,
      run,
      attempt,
      dueAt: this.#fired.dueAt.toISOString(),
    });
    const report = await runJob(
      {
        job: this.#job,
        ...part,
        retention: settings.retention,
        readBack: false,
        dryRun: false,
        nextTryAt: (results, endedAt) => this.#nextTryAt(results, endedAt),
      },
      world,
    );
    logReport(report, run, world);
    return report;
  }

  #nextTryAt(results: readonly JobResult[], endedAt: Date): Date | undefined {
    if (results.some(isPassing)) this.#failures += 1;
    if (!results.some((result) => this.#isAgain(result))) return undefined;
    const { delayMs, delayMsMax } = this.#options.retry;
    const pauseMs = results.some(isPassing)
      ? Math.min(delayMsMax, delayMs * 2 ** Math.min(this.#failures - 1, DOUBLINGS_MAX))
      : this.#options.world.config.leaseTermMs;
    const at = new Date(endedAt.getTime() + pauseMs);
    const { nextFireAt } = this.#fired;
    return nextFireAt !== undefined && at >= nextFireAt ? undefined : at;
  }

  /**
   * What failed and can pass, as often as the policy says. And what another run holds: the due time is this run's alone, so
   * that one is about something else, another job of the database or a backup by hand, and its end is waited for. But a
   * run that was taken for dead, and holds the lock, is not.
   */
  #isAgain(result: JobResult): boolean {
    if (isLocked(result)) return this.#claim.isOwn && !this.#fired.resumes;
    return isPassing(result) && this.#failures <= this.#options.retry.retriesMax;
  }
}

function isPassing({ error }: JobResult): boolean {
  return error !== undefined && canPass(error);
}

function isLocked({ error }: JobResult): boolean {
  return error?.code === 'locked';
}

/** One line for the run as a whole, and one for each part that failed. */
export function logReport(report: JobReport, run: number, world: JobWorld): void {
  const { logger } = world.context;
  const { job, results, nextTryAt } = report;
  const durationMs = report.endedAt.getTime() - report.startedAt.getTime();
  const state = stateOf(report);
  const next = nextTryAt && nextTryAt.toISOString();
  const fields = { job: job.id, run, state, durationMs, ...(next === undefined ? {} : { nextTryAt: next }) };
  for (const result of results) {
    const { error } = result;
    if (error !== undefined && !isLocked(result)) logFailure(job, error, world, result);
  }
  const tries = next === undefined ? '' : `; tried again at ${next}`;
  switch (state) {
    case 'succeeded':
      logger.success('job.succeeded', `run ${run}: ${job.id} done in ${(durationMs / 1_000).toFixed(1)} s`, fields);
      return;
    case 'locked':
      logger.info('job.skipped', `run ${run}: ${job.id} skipped: ${results[0]?.error?.message ?? ''}${tries}`, fields);
      return;
    case 'partial':
    case 'failed': {
      const all = [...results, ...report.standing];
      const failed = all.filter(({ error }) => error !== undefined).length;
      logger.error(`job.${state}`, `run ${run}: ${job.id} failed, ${failed} of ${all.length}${tries}`, fields);
      return;
    }
    default:
      state satisfies never;
  }
}

function logFailure(
  job: Job,
  error: PgarkError,
  world: JobWorld,
  { database, storage }: Partial<Pick<JobResult, 'database' | 'storage'>> = {},
): void {
  const ofOne = job.source.databases === undefined || database === undefined ? '' : ` of ${database}`;
  const where = storage === undefined ? '' : `${ofOne} to ${storage}`;
  world.context.logger.error('backup.failed', `${job.id}${where}: ${error.message}; ${error.hint}`, {
    job: job.id,
    code: error.code,
    hint: error.hint,
    ...(database === undefined ? {} : { database }),
    ...(storage === undefined ? {} : { storage }),
    ...(error.code === 'internal' ? { stack: error.stack } : {}),
  });
}
