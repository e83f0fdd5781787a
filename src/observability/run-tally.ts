import type { RunKind, RunRecord } from '../runs/run-record.ts';

/** How a run ended; `locked` is one that did nothing because another was at work. */
export type RunOutcome = 'succeeded' | 'failed' | 'interrupted' | 'locked';

export const runOutcomes = ['succeeded', 'failed', 'interrupted', 'locked'] as const satisfies readonly RunOutcome[];

/** Upper bounds of the duration histogram, in seconds, both ends of what backups take: a second to a day. */
export const durationBoundsSeconds = [1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400] as const;

/** Runs of one kind over one database; kinds that work on a whole storage have neither source nor database. */
export interface RunGroup {
  readonly kind: RunKind;
  readonly source?: string | undefined;
  readonly database?: string | undefined;
}

export interface RunCounts extends RunGroup {
  readonly counts: Readonly<Record<RunOutcome, number>>;
  readonly durations: DurationHistogram;
}

/** How long the runs that succeeded or failed took. */
interface DurationHistogram {
  /** As many as there are bounds: durations up to that bound and above the one before it. */
  readonly perBound: readonly number[];
  /** All of them, those beyond the last bound too. */
  readonly count: number;
  /** Whole milliseconds: the sum is the same in whichever order they were added. */
  readonly sumMs: number;
}

/** A backup that did not succeed. */
interface FailedAttempt {
  readonly runId: string;
  readonly outcome: 'failed' | 'interrupted';
  readonly startedAt: Date;
  /** When it failed; when it started, for a run that died without a word. */
  readonly at: Date;
  readonly error: RunRecord['error'];
}

/**
 * The backups of one database in one format that did not succeed. Successes are not among them: what those have made lies in
 * the storage, or says nothing any more.
 */
export interface FailureFacts {
  readonly firstStartedAt: Date;
  readonly last: FailedAttempt;
}

/** What failures are kept apart by. */
interface FailedLine {
  readonly source: string;
  /** Undefined: it failed for the source as a whole. */
  readonly database?: string | undefined;
  /** Undefined: an earlier version did not write it; then it counts for each format. */
  readonly format?: string | undefined;
}

/** The sum of run records: as large as there are databases, however many runs there were. */
export interface RunTally {
  /**
   * Runs that ended since then are counted: the beginning of a month, UTC. A counter that begins anew at a moment that
   * every process agrees on is never taken for one that went back, whatever is restarted, and needs no older records.
   */
  readonly countedSince: Date;
  /** By `groupKey`. */
  readonly groups: ReadonlyMap<string, RunCounts>;
  /** By `failureKey`. */
  readonly failures: ReadonlyMap<string, FailureFacts>;
}

/** A run that is over: by its record, or because nobody is left who could end it. */
export interface EndedRun {
  readonly record: RunRecord;
  readonly outcome: RunOutcome;
}

export function groupKey({ kind, source, database }: RunGroup): string {
  return JSON.stringify([kind, source ?? null, database ?? null]);
}

export function failureKey({ source, database, format }: FailedLine): string {
  return JSON.stringify([source, database ?? null, format ?? null]);
}

/** How a finished record says it ended; undefined while it says `running`. */
export function outcomeOf(record: RunRecord): RunOutcome | undefined {
  switch (record.state) {
    case 'running':
      return undefined;
    case 'failed':
      return record.error?.code === 'locked' ? 'locked' : 'failed';
    case 'succeeded':
    case 'interrupted':
      return record.state;
    default:
      return record.state satisfies never;
  }
}

export function emptyTally(now: Date): RunTally {
  return { countedSince: startOfMonth(now), groups: new Map(), failures: new Map() };
}

/** The tally with more runs in it; counts of a month that is over are dropped. Each run is to be added once. */
export function addRuns(tally: RunTally, runs: Iterable<EndedRun>, now: Date): RunTally {
  const countedSince = startOfMonth(now);
  const groups = new Map(countedSince.getTime() === tally.countedSince.getTime() ? tally.groups : []);
  const failures = new Map(tally.failures);
  for (const run of runs) {
    countRun(groups, run, countedSince);
    noteFailure(failures, run);
  }
  return { countedSince, groups, failures };
}

function countRun(groups: Map<string, RunCounts>, { record, outcome }: EndedRun, countedSince: Date): void {
  const endedMs = Date.parse(record.endedAt ?? record.startedAt);
  if (endedMs < countedSince.getTime()) return;
  const key = groupKey(record);
  const group = groups.get(key) ?? emptyCounts(record);
  const timed = record.endedAt !== undefined && (outcome === 'succeeded' || outcome === 'failed');
  groups.set(key, {
    ...group,
    counts: { ...group.counts, [outcome]: group.counts[outcome] + 1 },
    durations: timed ? withDuration(group.durations, endedMs - Date.parse(record.startedAt)) : group.durations,
  });
}

export function emptyCounts({ kind, source, database }: RunGroup): RunCounts {
  return {
    kind,
    ...(source === undefined ? {} : { source }),
    ...(database === undefined ? {} : { database }),
    counts: { succeeded: 0, failed: 0, interrupted: 0, locked: 0 },
    durations: { perBound: durationBoundsSeconds.map(() => 0), count: 0, sumMs: 0 },
  };
}

function withDuration(histogram: DurationHistogram, durationMs: number): DurationHistogram {
  // A clock that was set back during the run must not make a sum go down.
  const ms = Math.max(0, durationMs);
  const place = durationBoundsSeconds.findIndex((bound) => ms <= bound * 1_000);
  return {
    perBound: histogram.perBound.map((count, index) => (index === place ? count + 1 : count)),
    count: histogram.count + 1,
    sumMs: histogram.sumMs + ms,
  };
}

function noteFailure(failures: Map<string, FailureFacts>, { record, outcome }: EndedRun): void {
  const { kind, source, database, format } = record;
  // A run that met another one at work says nothing of how well the database is protected.
  if (kind !== 'backup' || source === undefined || outcome === 'locked' || outcome === 'succeeded') return;
  const key = failureKey({ source, database, format });
  const startedAt = new Date(record.startedAt);
  const before = failures.get(key);
  failures.set(key, {
    firstStartedAt: before !== undefined && before.firstStartedAt < startedAt ? before.firstStartedAt : startedAt,
    last:
      before !== undefined && before.last.startedAt >= startedAt ? before.last : failure(record, outcome, startedAt),
  });
}

function failure(record: RunRecord, outcome: 'failed' | 'interrupted', startedAt: Date): FailedAttempt {
  return {
    runId: record.id,
    outcome,
    startedAt,
    at: new Date(record.endedAt ?? record.startedAt),
    error: record.error,
  };
}

function startOfMonth(now: Date): Date {
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1));
}
