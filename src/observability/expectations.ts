import { Cron } from 'croner';
import type { Config, SourceConfig } from '../config/model.ts';
import type { Schedule } from '../config/schedule.ts';
import type { Manifest } from '../repository/manifest.ts';

/** A backup may be this late, and twice as long as the last one took, before it is overdue. */
const GRACE_MS_MIN = 15 * 60_000;
const GRACE_DURATIONS = 2;

/** Stands for the databases of a source that has patterns as long as none of them is known. */
export const ANY_DATABASE = '*';

/** One line of backups: what metrics have a series for, and what is protected or not. */
export interface BackupSeries {
  readonly source: string;
  readonly database: string;
  readonly format: Manifest['format'];
  readonly storage: string;
}

/** What the configuration wants of a line of backups. */
export interface PlannedBackup extends BackupSeries {
  /** None: backed up by hand only. Several where several jobs make backups of the same kind. */
  readonly schedules: readonly Schedule[];
  /** The longest of the jobs'. */
  readonly jitterMs: number;
  /** Said by the user; then the schedules do not decide what is overdue. */
  readonly maxAgeMs?: number;
}

/** By when the next backup must be there. */
export type Expectation =
  /** Nobody said when to back up. */
  | { readonly kind: 'none' }
  /** Overdue from `by` on. `dueAt` is when it was to start, before the grace; missing where an age decides. */
  | { readonly kind: 'expected'; readonly by: Date; readonly dueAt?: Date; readonly maxAgeMs?: number };

/** The jobs of a configuration as lines of backups; `databasesOf` names the databases that a source is to have backups of. */
export function planBackups(
  config: Pick<Config, 'databases'>,
  databasesOf: (source: SourceConfig) => readonly string[],
): readonly PlannedBackup[] {
  const plans = new Map<string, PlannedBackup>();
  for (const source of config.databases.values()) {
    const maxAgeMs = source.expect?.maxAgeMs;
    for (const job of source.jobs.values()) {
      // A backup of the whole server lies with the database that it was taken by.
      const databases = job.format === 'physical' ? [source.connection.database] : databasesOf(source);
      for (const database of databases) {
        for (const storage of job.to) {
          const series = { source: source.name, database, format: job.format, storage };
          const before = plans.get(seriesKey(series));
          plans.set(seriesKey(series), {
            ...series,
            schedules: [...(before?.schedules ?? []), ...(job.schedule === undefined ? [] : [job.schedule])],
            jitterMs: Math.max(before?.jitterMs ?? 0, job.jitterMs),
            ...(maxAgeMs === undefined ? {} : { maxAgeMs }),
          });
        }
      }
    }
  }
  return [...plans.values()];
}

export function seriesKey({ source, database, format, storage }: BackupSeries): string {
  return JSON.stringify([source, database, format, storage]);
}

/** When schedules fire, in one time zone. Remembers parsed expressions, so keep one for many questions. */
export class DueTimes {
  readonly #timezone: string;
  readonly #crons = new Map<string, Cron>();

  /** An IANA name; whoever made the schedules has checked it. */
  constructor(timezone: string) {
    this.#timezone = timezone;
  }

  /** The first time strictly after the given one at which any of the schedules fires; an interval counts from there. */
  firstAfter(schedules: readonly Schedule[], after: Date): Date | undefined {
    let firstMs: number | undefined;
    for (const schedule of schedules) {
      const ms = this.#after(schedule, after);
      if (ms !== undefined && (firstMs === undefined || ms < firstMs)) firstMs = ms;
    }
    return firstMs === undefined ? undefined : new Date(firstMs);
  }

  #after(schedule: Schedule, after: Date): number | undefined {
    switch (schedule.kind) {
      case 'interval':
        return after.getTime() + schedule.everyMs;
      case 'cron':
        return this.#cron(schedule.expression).nextRun(after)?.getTime();
      default:
        return schedule satisfies never;
    }
  }

  #cron(expression: string): Cron {
    const known = this.#crons.get(expression);
    if (known !== undefined) return known;
    const cron = new Cron(expression, {
      mode: '5-part',
      paused: true,
      timezone: this.#timezone,
      // A list such as `30 2,14 * * *` is as fixed as a single time: in the night that has no 02:30 it runs after the gap.
      fixedTimeRule: 'no-wildcard',
    });
    this.#crons.set(expression, cron);
    return cron;
  }
}

/**
 * By when the backup that follows `from` must be there: the last success, or where there is none the moment since which
 * one could have been made. It does not depend on whether anything runs, so that a scheduler that hangs, or was never
 * started, is found out too.
 */
export function expectationOf(
  plan: PlannedBackup,
  from: { readonly at: Date; readonly durationMs: number },
  dueTimes: DueTimes,
): Expectation {
  const { maxAgeMs } = plan;
  if (maxAgeMs !== undefined) return { kind: 'expected', by: new Date(from.at.getTime() + maxAgeMs), maxAgeMs };
  const dueAt = dueTimes.firstAfter(plan.schedules, from.at);
  if (dueAt === undefined) return { kind: 'none' };
  const graceMs = plan.jitterMs + Math.max(GRACE_MS_MIN, GRACE_DURATIONS * from.durationMs);
  return { kind: 'expected', by: new Date(dueAt.getTime() + graceMs), dueAt };
}
