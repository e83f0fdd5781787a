import type { BackupId } from '../repository/ids.ts';
import { isStillRunning } from '../runs/is-still-running.ts';
import type { RunKind, RunRecord } from '../runs/run-record.ts';
import { type BackupFacts, newestOf, ofThePast, type SuspicionFacts, suspicionOf } from './backup-facts.ts';
import { type DrillFacts, drillKey } from './drill-history.ts';
import {
  ANY_DATABASE,
  type BackupSeries,
  DueTimes,
  type Expectation,
  type ExpectedLine,
  expectationsOf,
  type PlannedBackup,
  seriesKey,
} from './expectations.ts';
import { type DisproofFacts, disproofOf, isOnlyTried, type PlannedProof } from './proof-facts.ts';
import { addRuns, type EndedRun, type FailureFacts, failureKey, type RunCounts, type RunTally } from './run-tally.ts';
import type { StorageHistory } from './storage-history.ts';
import { type VerificationFacts, verificationOf } from './verify-history.ts';
import type { WalProtection } from './wal-protection.ts';

/**
 * How well everything is protected, at one moment: what metrics, health and `healthcheck` are made of. It follows from what
 * lies in the storages and from the configuration alone, so that it is the same after a restart and on another host.
 */
export interface ProtectionState {
  readonly at: Date;
  readonly backups: readonly BackupProtection[];
  readonly storages: readonly StorageState[];
  readonly runs: readonly StorageRuns[];
  /** Runs that go on now, of every kind. */
  readonly running: readonly RunningRun[];
  readonly probes: readonly Probe[];
  /** Of sources whose WAL is archived, by this process, or as a command finds it. */
  readonly wal: readonly WalProtection[];
  /** Since this process started. */
  readonly notificationFailures: number;
}

export interface BackupProtection extends BackupSeries {
  /** The newest backup that is there. */
  readonly lastSuccess: LastSuccess | undefined;
  /** The newest attempt that is over, however it ended. */
  readonly lastAttempt: LastAttempt | undefined;
  /** Of the newest full backup, if it is suspicious and was not accepted. */
  readonly suspicion: SuspicionFacts | undefined;
  /** Of the newest backup, if it is known not to be what it should be. */
  readonly disproof: DisproofFacts | undefined;
  /** Whether it is here that somebody has to see to it: it is backed up here, or nothing but tried here. */
  readonly isOurs: boolean;
  readonly expectation: Expectation;
  /** As scheduled, without the jitter. */
  readonly nextRunAt: Date | undefined;
  readonly running: RunningRun | undefined;
  /** The last test restore of one of them that passed. */
  readonly lastDrill: DrillFacts | undefined;
  readonly verification: VerificationFacts;
  readonly backupCount: number;
  readonly storedBytes: number;
}

interface LastSuccess {
  readonly id: BackupId;
  /** What the backup holds is as of here. */
  readonly startedAt: Date;
  readonly endedAt: Date;
  readonly durationMs: number;
  readonly storedBytes: number;
}

interface LastAttempt {
  /** When it ended; when it started, where it died without a word. */
  readonly at: Date;
  readonly outcome: 'succeeded' | 'failed' | 'interrupted';
  readonly error?: RunRecord['error'];
}

export interface RunningRun {
  readonly runId: string;
  readonly kind: RunKind;
  readonly storage: string;
  readonly source?: string | undefined;
  readonly database?: string | undefined;
  /** Of a backup, if its version writes it. */
  readonly format?: string | undefined;
  readonly startedAt: Date;
  /** 0 to 1; known of runs in this process only. */
  readonly progressRatio?: number;
}

export interface StorageRuns {
  readonly storage: string;
  readonly counts: RunCounts;
}

interface StorageState {
  readonly storage: string;
  /** When it was last read; undefined if it never could be since this process started. */
  readonly readAt: Date | undefined;
  readonly damagedManifests: number;
}

/** The last try whether a server or a storage answers. */
export interface Probe {
  readonly kind: 'database' | 'storage';
  readonly name: string;
  readonly at: Date;
  /** What was wrong; undefined if it answered. Never a secret. */
  readonly failure?: string;
}

export interface ProtectionInputs {
  readonly now: Date;
  /** Since when this process has the configuration it has; undefined if it is a command, which looks once. */
  readonly watchedSince: Date | undefined;
  /** By name, sources that it has known for longer as they are: a reload changes what it changes. */
  readonly sourcesWatchedSince?: ReadonlyMap<string, Date> | undefined;
  /** IANA name; schedules are meant in it. */
  readonly timezone: string;
  readonly plans: readonly PlannedBackup[];
  /** What is verified or drilled. Default: nothing is. */
  readonly proofs?: readonly PlannedProof[] | undefined;
  /** Every configured storage by its name; undefined while its history could not be read. */
  readonly histories: ReadonlyMap<string, StorageHistory | undefined>;
  /** By run id, 0 to 1. */
  readonly progressRatios: ReadonlyMap<string, number>;
  readonly probes: readonly Probe[];
  /** Default: of none. */
  readonly wal?: readonly WalProtection[] | undefined;
  readonly notificationFailures: number;
}

/** Pure: the same inputs give the same state. Cheap enough to be made for each request. */
export function buildProtectionState(inputs: ProtectionInputs): ProtectionState {
  const storages = [...inputs.histories].map(([storage, history]) => examineStorage(storage, history, inputs));
  const dueTimes = new DueTimes(inputs.timezone);
  return {
    at: inputs.now,
    backups: storages.flatMap((storage) => protectionsIn(storage, inputs, dueTimes)),
    storages: storages.map(({ storage, history }) => ({
      storage,
      readAt: history?.readAt,
      damagedManifests: history?.damagedManifests ?? 0,
    })),
    runs: storages.flatMap(({ storage, tally }) =>
      [...(tally?.groups.values() ?? [])].map((counts) => ({ storage, counts })),
    ),
    running: storages.flatMap(({ running }) => running),
    probes: inputs.probes,
    wal: inputs.wal ?? [],
    notificationFailures: inputs.notificationFailures,
  };
}

interface ExaminedStorage {
  readonly storage: string;
  readonly history: StorageHistory | undefined;
  /** With the runs that died without a word. */
  readonly tally: RunTally | undefined;
  readonly running: readonly RunningRun[];
}

function examineStorage(
  storage: string,
  history: StorageHistory | undefined,
  { now, progressRatios }: ProtectionInputs,
): ExaminedStorage {
  if (history === undefined) return { storage, history, tally: undefined, running: [] };
  const running: RunningRun[] = [];
  const dead: EndedRun[] = [];
  for (const record of history.openRuns) {
    if (!isStillRunning(record, history.leases, history.storeNow)) {
      dead.push({ record, outcome: 'interrupted' });
      continue;
    }
    const { id: runId, kind, source, database, format } = record;
    const progressRatio = progressRatios.get(runId);
    running.push({
      runId,
      kind,
      storage,
      source,
      database,
      format,
      startedAt: new Date(record.startedAt),
      ...(progressRatio === undefined ? {} : { progressRatio: Math.min(1, Math.max(0, progressRatio)) }),
    });
  }
  // Also where nothing died: a month that is over while the storage cannot be read ends here.
  return { storage, history, tally: addRuns(history.tally, dead, now), running };
}

/** What is planned for a storage, and what lies in it although nobody plans it any more. */
function protectionsIn(
  { storage, history, tally, running }: ExaminedStorage,
  inputs: ProtectionInputs,
  dueTimes: DueTimes,
): readonly BackupProtection[] {
  const present = Map.groupBy(history?.backups.values() ?? [], (backup) => seriesKey({ ...backup, storage }));
  const planned = new Map(
    inputs.plans.filter((plan) => plan.storage === storage).map((plan) => [seriesKey(plan), plan]),
  );
  const newest = newestOfSources(ofThePast(history?.backups.values() ?? [], inputs.now));
  const known = new Set([...present.values()].flatMap(([first]) => (first === undefined ? [] : [databaseKey(first)])));
  const lines = [...new Set([...planned.keys(), ...present.keys()])].flatMap((key): readonly Line[] => {
    const plan = planned.get(key);
    const backups = present.get(key) ?? [];
    const series = plan ?? backups[0];
    if (series === undefined) return [];
    const { source, database, format } = series;
    const failures = failuresOf(tally, series);
    const lastSuccess = lastSuccessOf(backups, inputs.now);
    // What a whole server's files lie with is chosen by no pattern.
    const isOurs = plan !== undefined || isOnlyTried({ source, storage }, inputs);
    const isDatabaseKnown = format === 'physical' || known.has(databaseKey(series));
    return [
      {
        series: { source, database, format, storage },
        plan,
        backups,
        lastSuccess,
        suspicion: suspicionOf(ofThePast(backups, inputs.now), history?.acceptedSizes),
        disproof: disproofOf(lastSuccess, history?.proofs),
        isOurs,
        wantedSince: wantedSince({ source, failures, newestOfSource: newest.get(source), isDatabaseKnown, inputs }),
        failures,
        running: running.find((run) => isRunOf(run, series)),
        lastDrill: history?.drills.get(drillKey(series)),
        verification: verificationOf(backups, history?.verifications ?? new Map(), {
          now: inputs.now,
          watchedSince: inputs.sourcesWatchedSince?.get(source) ?? inputs.watchedSince,
          dueTimes,
          planned: (inputs.proofs ?? []).filter((each) => isOurs && each.source === source && each.storage === storage),
        }),
      },
    ];
  });
  return [...expectationsOf(lines, dueTimes)].map(([line, expectation]) =>
    protectionOf(line, expectation, inputs.now, dueTimes),
  );
}

/** What is known of a line of backups in one storage. */
interface Line extends ExpectedLine {
  readonly backups: readonly BackupFacts[];
  readonly lastSuccess: LastSuccess | undefined;
  readonly suspicion: SuspicionFacts | undefined;
  readonly disproof: DisproofFacts | undefined;
  readonly isOurs: boolean;
  readonly failures: Failures;
  readonly running: RunningRun | undefined;
  readonly lastDrill: DrillFacts | undefined;
  readonly verification: VerificationFacts;
}

function isRunOf(run: RunningRun, { source, database, format }: Omit<BackupSeries, 'storage'>): boolean {
  const isOfFormat = run.format === undefined || run.format === format;
  return run.kind === 'backup' && run.source === source && run.database === database && isOfFormat;
}

/**
 * What failed for a source as a whole failed for each of its databases. But it says of none since when it is there; only
 * where no database is known does it stand for them.
 */
function failuresOf(
  tally: RunTally | undefined,
  { source, database, format }: Omit<BackupSeries, 'storage'>,
): Failures {
  const of = (name: string | undefined): readonly FailureFacts[] =>
    [format, undefined].flatMap(
      (each) => tally?.failures.get(failureKey({ source, database: name, format: each })) ?? [],
    );
  const [own, whole] = [of(database), of(undefined)];
  const first = (database === ANY_DATABASE ? whole : own).map(({ firstStartedAt }) => firstStartedAt);
  const last = [...own, ...whole].map((each) => each.last);
  return {
    firstStartedAt: first.sort((a, b) => a.getTime() - b.getTime())[0],
    last: last.sort((a, b) => b.startedAt.getTime() - a.startedAt.getTime())[0],
  };
}

function databaseKey({ source, database }: Pick<BackupFacts, 'source' | 'database'>): string {
  return JSON.stringify([source, database]);
}

/** When the newest backup of each source was begun, whichever of its databases it is of. */
function newestOfSources(backups: Iterable<BackupFacts>): ReadonlyMap<string, Date> {
  const newest = new Map<string, Date>();
  for (const { source, startedAt } of backups) {
    const before = newest.get(source);
    if (before === undefined || startedAt > before) newest.set(source, startedAt);
  }
  return newest;
}

interface Failures {
  readonly firstStartedAt: Date | undefined;
  readonly last: FailureFacts['last'] | undefined;
}

/**
 * Since when there could be a backup of a line that has none: since its first failure or since this process began to watch,
 * whichever was earlier. So a new line has until its schedule's first time, and one that always failed is not given it anew
 * by a restart. A database that its source's newest run has not met is younger than that run; one that has backups in
 * another format is taken for as young by a command, which has not seen when the format was added.
 */
function wantedSince(known: {
  readonly source: string;
  readonly failures: Failures;
  readonly newestOfSource: Date | undefined;
  readonly isDatabaseKnown: boolean;
  readonly inputs: ProtectionInputs;
}): Date {
  const { source, failures, newestOfSource, isDatabaseKnown, inputs } = known;
  const watchedSince = inputs.sourcesWatchedSince?.get(source) ?? inputs.watchedSince;
  const youngest =
    isDatabaseKnown && watchedSince !== undefined
      ? watchedSince
      : new Date(Math.max(watchedSince?.getTime() ?? 0, newestOfSource?.getTime() ?? 0));
  const { firstStartedAt = youngest } = failures;
  return firstStartedAt < youngest ? firstStartedAt : youngest;
}

function protectionOf(line: Line, expectation: Expectation, now: Date, dueTimes: DueTimes): BackupProtection {
  const {
    series,
    plan,
    backups,
    lastSuccess,
    suspicion,
    disproof,
    isOurs,
    failures,
    running,
    lastDrill,
    verification,
  } = line;
  return {
    ...series,
    lastSuccess,
    lastAttempt: lastAttemptOf(lastSuccess, failures),
    suspicion,
    disproof,
    isOurs,
    expectation,
    nextRunAt: plan && nextRunOf(plan, lastSuccess, failures, now, dueTimes),
    running,
    lastDrill,
    verification,
    backupCount: backups.length,
    storedBytes: backups.reduce((sum, backup) => sum + backup.storedBytes, 0),
  };
}

function lastSuccessOf(backups: readonly BackupFacts[], now: Date): LastSuccess | undefined {
  const newest = newestOf(backups, now);
  if (newest === undefined) return undefined;
  const { id, startedAt, endedAt, storedBytes } = newest;
  return { id, startedAt, endedAt, durationMs: Math.max(0, endedAt.getTime() - startedAt.getTime()), storedBytes };
}

/** A success is an attempt as long as its backup is there. */
function lastAttemptOf(lastSuccess: LastSuccess | undefined, { last: failure }: Failures): LastAttempt | undefined {
  if (failure !== undefined && (lastSuccess === undefined || failure.startedAt > lastSuccess.startedAt)) {
    const { at, outcome, error } = failure;
    return { at, outcome, ...(error === undefined ? {} : { error }) };
  }
  return lastSuccess && { at: lastSuccess.endedAt, outcome: 'succeeded' };
}

/** An interval counts from the last attempt's start; what should have run while nobody could run it runs now. */
function nextRunOf(
  plan: PlannedBackup,
  lastSuccess: LastSuccess | undefined,
  failures: Failures,
  now: Date,
  dueTimes: DueTimes,
): Date | undefined {
  const startsMs = [lastSuccess?.startedAt, failures.last?.startedAt].map((start) => start?.getTime() ?? 0);
  const lastStart = new Date(Math.max(...startsMs));
  const next = plan.schedules.map((schedule) =>
    schedule.kind === 'cron'
      ? (dueTimes.firstAfter([schedule], now)?.getTime() ?? Number.POSITIVE_INFINITY)
      : Math.max(now.getTime(), dueTimes.firstAfter([schedule], lastStart)?.getTime() ?? 0),
  );
  const firstMs = Math.min(...next);
  return Number.isFinite(firstMs) ? new Date(firstMs) : undefined;
}

/** Whether the next backup should have been there by now. */
export function isOverdue({ expectation }: Pick<BackupProtection, 'expectation'>, now: Date): boolean {
  return expectation.kind === 'expected' && now > expectation.by;
}

/** Whether the newest backup is known not to be what it should be, and it is here that somebody has to see to it. */
export function isDisproved({ isOurs, disproof }: Pick<BackupProtection, 'isOurs' | 'disproof'>): boolean {
  return isOurs && disproof !== undefined;
}
