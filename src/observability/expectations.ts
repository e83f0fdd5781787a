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
  /** How old the user lets the newest backup of the database become, whatever its format. */
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

/** A line of backups in one storage, as far as it decides by when there must be another one. */
export interface ExpectedLine {
  readonly series: BackupSeries;
  /** Undefined: nobody plans it any more. */
  readonly plan: PlannedBackup | undefined;
  /** The newest backup that is there. */
  readonly lastSuccess: { readonly startedAt: Date; readonly durationMs: number } | undefined;
  /** Since when one could have been made, for a line without any. */
  readonly wantedSince: Date;
}

/**
 * By when each of a storage's lines must have its next backup. It does not depend on whether anything runs, so that a
 * scheduler that hangs, or was never started, is found out too.
 *
 * A schedule is the line's own. An age that the user allows is the database's: any backup that holds it meets the age,
 * whatever its format. It is told of the lines that are to keep it, which are made more often than that; else dumps that stop
 * would be told as if the base backups beside them had stopped too.
 */
export function expectationsOf<Line extends ExpectedLine>(
  lines: readonly Line[],
  dueTimes: DueTimes,
): ReadonlyMap<Line, Expectation> {
  const own = new Map(lines.map((line) => [line, ownExpectation(line, dueTimes)] as const));
  const peersOf = peersAmong(lines);
  return new Map(lines.map((line) => [line, withAge(line, peersOf(line), own)] as const));
}

/** What follows from the line's schedule; where that asks for backups more often than the age does, the age is enough. */
function ownExpectation(line: ExpectedLine, dueTimes: DueTimes): Expectation {
  const { plan, lastSuccess } = line;
  if (plan === undefined) return { kind: 'none' };
  const dueAt = dueTimes.firstAfter(plan.schedules, fromOf(line));
  if (dueAt === undefined) return { kind: 'none' };
  const aged = plan.maxAgeMs === undefined ? undefined : agedAt(fromOf(line), plan.maxAgeMs);
  if (aged !== undefined && aged.by > dueAt) return aged;
  const graceMs = plan.jitterMs + Math.max(GRACE_MS_MIN, GRACE_DURATIONS * (lastSuccess?.durationMs ?? 0));
  return { kind: 'expected', by: new Date(dueAt.getTime() + graceMs), dueAt };
}

function fromOf({ lastSuccess, wantedSince }: ExpectedLine): Date {
  return lastSuccess?.startedAt ?? wantedSince;
}

function agedAt(from: Date, maxAgeMs: number): Expectation & { readonly kind: 'expected' } {
  return { kind: 'expected', by: new Date(from.getTime() + maxAgeMs), maxAgeMs };
}

/** The lines whose backups hold what this one's do, itself among them: the files of a server hold all of its databases. */
function peersAmong<Line extends ExpectedLine>(lines: readonly Line[]): (line: Line) => readonly Line[] {
  const keyOf = ({ series }: Line): string => JSON.stringify([series.source, series.database]);
  const bySource = Map.groupBy(lines, ({ series }) => series.source);
  const byDatabase = Map.groupBy(lines, keyOf);
  const physical = new Map(
    [...bySource].map(([source, all]) => [source, all.filter(({ series }) => series.format === 'physical')] as const),
  );
  return (line) => {
    const { source, format } = line.series;
    if (format === 'physical') return bySource.get(source) ?? [];
    return [...(byDatabase.get(keyOf(line)) ?? []), ...(physical.get(source) ?? [])];
  };
}

/** The age where no schedule keeps it: of what is made by hand, or else of every line. */
function withAge<Line extends ExpectedLine>(
  line: Line,
  peers: readonly Line[],
  expectations: ReadonlyMap<Line, Expectation>,
): Expectation {
  const of = (peer: Line): Expectation => expectations.get(peer) ?? { kind: 'none' };
  const isKeeping = (peer: Line): boolean => 'maxAgeMs' in of(peer);
  const isByHand = (peer: Line): boolean => peer.plan !== undefined && of(peer).kind === 'none';
  const own = of(line);
  const maxAgeMs = line.plan?.maxAgeMs;
  if (maxAgeMs === undefined || peers.some(isKeeping) || (peers.some(isByHand) && !isByHand(line))) return own;
  const newest = peers.reduce(
    (before, { lastSuccess }) => (lastSuccess && lastSuccess.startedAt > before ? lastSuccess.startedAt : before),
    fromOf(line),
  );
  const aged = agedAt(newest, maxAgeMs);
  return own.kind === 'expected' && own.by < aged.by ? own : aged;
}
