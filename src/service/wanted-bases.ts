import type { Clock } from '../common/clock.ts';
import type { Generation } from './generation.ts';
import type { Job } from './jobs.ts';
import { logReport } from './due-run.ts';
import { type JobWorld, runJob } from './run-job.ts';
import type { Turns } from './turns.ts';

/** One that failed is not made again sooner: what kept it from being made is told of, and takes time to mend. */
const AGAIN_MS = 10 * 60_000;

export interface WantedBasesOptions {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  /** Shared with the jobs that are due. */
  readonly turns: Turns;
  /** Aborted: none begins any more. What runs goes on. */
  readonly stopping: AbortSignal;
  /** Counts the runs of this process, for the log. */
  readonly nextRunNumber: () => number;
}

/**
 * Base backups that are made out of turn, since WAL is missing before what follows: until there is one, nothing that is
 * archived from then on can be recovered.
 */
export class WantedBases {
  readonly #options: WantedBasesOptions;
  readonly #running = new Map<string, Promise<void>>();
  readonly #lastBegunMs = new Map<string, number>();

  constructor(options: WantedBasesOptions) {
    this.#options = options;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /**
   * Runs the source's first job of physical backups, one of full ones if there is any, unless that goes on already, or was only
   * just tried. The configuration stays in use until it has ended.
   */
  want(source: string, generation: Pick<Generation, 'jobs' | 'use'>, world: JobWorld): void {
    const { stopping, clock } = this.#options;
    const { logger } = world.context;
    const nowMs = clock.monotonicMs();
    const lastMs = this.#lastBegunMs.get(source) ?? -Infinity;
    if (stopping.aborted || this.#running.has(source) || nowMs - lastMs < AGAIN_MS) return;
    this.#lastBegunMs.set(source, nowMs);
    const physical = generation.jobs.filter(
      (each) => each.source.name === source && each.settings.format === 'physical',
    );
    const job = physical.find(({ settings }) => !settings.incremental) ?? physical[0];
    if (job === undefined) {
      const message = `WAL of ${source} is missing, and no base backup follows: there is no job of physical backups`;
      logger.warning('wal.no_base', message, { source });
      return;
    }
    logger.info('wal.base_wanted', `WAL of ${source} is missing: a new base backup follows, by ${job.id}`, {
      source,
      job: job.id,
    });
    const running = generation
      .use(() => this.#run(job, world))
      .catch(() => undefined)
      .finally(() => this.#running.delete(source));
    this.#running.set(source, running);
  }

  /** Resolves when none runs any more. */
  async ended(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  /** Rejects with the signal's reason if it was stopped, after which nothing half-done is left. */
  async #run(job: Job, world: JobWorld): Promise<void> {
    const { turns, stopping, nextRunNumber } = this.#options;
    await turns.within(job, stopping, async () => {
      const { retention } = job.settings;
      const report = await runJob({ job, retention, readBack: false, dryRun: false }, world);
      logReport(report, nextRunNumber(), world);
    });
  }
}
