import { PgarkError } from '../common/errors.ts';
import type { BackupOutcome } from '../operations/backup.ts';
import type { DatabaseFacts } from '../postgres/client/preflight.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { ObjectKey } from '../storage/object-store.ts';
import { gravest, isOfDamage } from './gravest.ts';
import type { Job } from './jobs.ts';
import type { StorageSize } from './storage-sizes.ts';

/** What there is in one storage now, or would be. */
export type JobOutcome =
  | { readonly kind: 'committed'; readonly manifest: Manifest; readonly durationMs: number }
  | {
      readonly kind: 'checked';
      readonly key: ObjectKey;
      readonly client: Extract<BackupOutcome, { readonly kind: 'checked' }>['client'];
      readonly database: DatabaseFacts;
    };

/** What came of one database in one storage. */
export interface JobResult {
  /** Undefined if it is about all databases of a source with patterns, whichever they are. */
  readonly database: string | undefined;
  /** The storage's name. */
  readonly storage: string;
  /** Where the storage is, for people; undefined if it could not be opened. */
  readonly location: string | undefined;
  /** Undefined if there is an error. */
  readonly outcome: JobOutcome | undefined;
  readonly error: PgarkError | undefined;
  /** What pruning the old backups there came to, if it was tried. It never makes a good backup a failed one. */
  readonly pruned: { readonly error: PgarkError | undefined } | undefined;
}

/** One run of a job, when it is over. */
export interface JobReport {
  readonly job: Job;
  readonly startedAt: Date;
  readonly endedAt: Date;
  /** Of the run that made the backup; undefined if none began. */
  readonly runId: string | undefined;
  /** The last part of what the run said. */
  readonly log: string;
  /** For each database and storage one; of globals only what failed. */
  readonly results: readonly JobResult[];
  /** The storages that were given the source's globals. */
  readonly globalsIn: readonly string[];
  /** Of the storages that were given a backup and have a `max_size`. */
  readonly sizes: readonly StorageSize[];
  /** What earlier attempts at the same due time came to, where this one did not try again. */
  readonly standing: readonly JobResult[];
  /** When the same will be tried again before its next due time, if it will. */
  readonly nextTryAt: Date | undefined;
}

/** What came of all that was to be done at the due time. */
export type JobWork = Pick<JobReport, 'results' | 'standing' | 'globalsIn'>;

/** `locked`: nothing was done, since another run is at work on the same. */
export type JobState = 'succeeded' | 'partial' | 'failed' | 'locked';

export function stateOf({ results, standing, globalsIn }: JobWork): JobState {
  // Where nothing was done, nothing has succeeded.
  if (results.length === 0 && globalsIn.length === 0) return 'failed';
  const all = [...results, ...standing];
  const failed = all.filter(({ error }) => error !== undefined);
  if (failed.length === 0) return 'succeeded';
  if (failed.length < all.length) return 'partial';
  return failed.every(({ error }) => error?.code === 'locked') ? 'locked' : 'failed';
}

/**
 * The error that a command ends with: none if all is done, one that says of damage if there is any, else the first one if nothing
 * is done, and `partial` for anything between.
 */
export function failureOf(results: readonly JobResult[]): PgarkError | undefined {
  const errors = results.flatMap(({ error }) => (error === undefined ? [] : [error]));
  const worst = gravest(errors);
  if (worst === undefined || errors.length === results.length || isOfDamage(worst)) return worst;
  return new PgarkError('partial', `${errors.length} of ${results.length} backups failed`);
}

/** Of the run that made the backup, or failed to; other runs, such as that of the prune, may have come after it. */
export function runIdOf(results: readonly JobResult[]): string | undefined {
  const failed = results.flatMap(({ error }) => error?.runId ?? []);
  const made = results.flatMap(({ outcome }) => (outcome?.kind === 'committed' ? [outcome.manifest.runId] : []));
  return [...failed, ...made][0];
}
