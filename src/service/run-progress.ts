import type { Progress } from '../operations/context.ts';

/** How far the backups are that this process makes at this moment. */
export class RunProgress {
  /** Each job has one run at a time. */
  readonly #byJob = new Map<object, { readonly runId: string; readonly ratio: number }>();

  /** Of each run its id, and how much of the database has been dumped, 0 to 1, by an estimate. */
  get ratios(): ReadonlyMap<string, number> {
    return new Map([...this.#byJob.values()].map(({ runId, ratio }) => [runId, ratio]));
  }

  /** `job` is any object that is the job's run of this process alone. */
  note(job: object, runId: string, { phase, bytes, bytesTotal = 0 }: Progress): void {
    if (phase !== 'dumping' || bytesTotal <= 0) return;
    this.#byJob.set(job, { runId, ratio: Math.min(1, bytes / bytesTotal) });
  }

  end(job: object): void {
    this.#byJob.delete(job);
  }
}
