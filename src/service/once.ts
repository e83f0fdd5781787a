import type { JobReport } from './job-report.ts';
import type { Job } from './jobs.ts';
import { type JobRequest, type JobWorld, runJob } from './run-job.ts';
import { Turns } from './turns.ts';

/**
 * Carries jobs out one time, so many at once; the reports come in the order of the jobs. Rejects only with the reason of
 * the context's signal, when all that ran has ended.
 */
export async function runOnce(
  jobs: readonly Job[],
  world: JobWorld,
  options: { readonly concurrency: number } & Omit<JobRequest, 'job' | 'storages' | 'retention' | 'nextTryAt'> & {
      readonly retentionOf: (job: Job) => JobRequest['retention'];
    },
): Promise<readonly JobReport[]> {
  const { concurrency, retentionOf, readBack, dryRun, from } = options;
  const { signal } = world.context;
  const turns = new Turns(concurrency);
  const settled = await Promise.allSettled(
    jobs.map((job) =>
      turns.within(job, signal, () => runJob({ job, retention: retentionOf(job), readBack, dryRun, from }, world)),
    ),
  );
  return settled.map((each) => {
    if (each.status === 'rejected') throw each.reason;
    return each.value;
  });
}
