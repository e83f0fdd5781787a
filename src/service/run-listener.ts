import type { Logger } from '../common/log.ts';
import { messageOf } from '../common/errors.ts';
import type { Job } from './jobs.ts';
import type { JobReport } from './job-report.ts';

/**
 * Who wants to know of runs: notifications, hooks, live events. Told the same by `backup`, `once` and the daemon. What a
 * listener throws is logged and changes nothing.
 */
export interface RunListener {
  /** Awaited before the work begins. */
  onRunStarted?(job: Job): Promise<void> | void;
  /** Awaited before the run counts as over. */
  onRunEnded?(report: JobReport): Promise<void> | void;
}

export async function tellStarted(listener: RunListener | undefined, job: Job, logger: Logger): Promise<void> {
  await tell(logger, () => listener?.onRunStarted?.(job));
}

export async function tellEnded(listener: RunListener | undefined, report: JobReport, logger: Logger): Promise<void> {
  await tell(logger, () => listener?.onRunEnded?.(report));
}

async function tell(logger: Logger, call: () => Promise<void> | void): Promise<void> {
  try {
    await call();
  } catch (error) {
    logger.warning('listener.failed', `a run could not be told of: ${messageOf(error)}`);
  }
}
