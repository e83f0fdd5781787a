import { errorTable } from '../common/error-table.ts';
import type { Config, SourceConfig } from '../config/model.ts';
import type {
  Digest,
  DigestBackups,
  DigestDatabase,
  DigestFailure,
  DigestProblem,
  DigestRuns,
  DigestStorage,
} from '../notify/digest.ts';
import type { LastDigest, OpenProblem } from '../notify/state.ts';
import { ANY_DATABASE } from '../observability/expectations.ts';
import { healthProblems, healthVerdict, silentOnes, suspicionProblems } from '../observability/health.ts';
import {
  type BackupProtection,
  isDisproved,
  isOverdue,
  type ProtectionState,
} from '../observability/protection-state.ts';
import { judgeWal } from '../observability/wal-protection.ts';
import type { RunListing, RunSummary } from '../operations/list-runs.ts';
import { type BrokenProof, brokenProofs } from './broken-proofs.ts';

/** What a digest is made of. */
export interface DigestInputs {
  readonly channel: string;
  readonly since: Date;
  readonly state: ProtectionState;
  /** Of all that began not long before `since`, and since then. */
  readonly runs: Pick<RunListing, 'runs' | 'hasMore' | 'failures'>;
  /** What the last one noted. */
  readonly last: LastDigest | undefined;
  /** What was told as a problem and is not over. */
  readonly problems: readonly OpenProblem[];
}

const INTERRUPTED = { code: 'interrupted', message: 'the run ended without a word, or was interrupted' };

/** The sources that a channel is told of. */
export function sourcesOf(config: Config, channel: string): readonly SourceConfig[] {
  return [...config.databases.values()].filter(({ notify }) => notify.includes(channel));
}

/** Pure: a digest of the sources that the channel is told of, and of nothing else. */
export function digestOf(config: Config, { channel, since, state: whole, runs, last, problems }: DigestInputs): Digest {
  const sources = new Set(sourcesOf(config, channel).map(({ name }) => name));
  const state = stateOfSources(config, whole, sources);
  const { at } = state;
  const ended = runs.runs.flatMap((run) => endedIn(run, { since, until: at, sources }));
  const failures = failuresOf(ended);
  const broken = brokenProofs(failures, problems, state);
  const unsuspected = { ...state, backups: state.backups.map((backup) => ({ ...backup, suspicion: undefined })) };
  const { notes } = healthVerdict(unsuspected, at);
  const standing: readonly DigestProblem[] = [
    ...healthProblems(state, at),
    // Nobody reads in a note of a weekly summary that a backup may be empty.
    ...suspicionProblems(state),
    ...state.backups.filter(isNeverMade).map(neverMade),
    ...broken.map(({ problem }) => problem),
    ...unreadStorages(state),
  ];
  return {
    event: 'digest',
    at,
    channel,
    since,
    databases: databasesOf(state, broken),
    standing,
    notes: [
      ...notes,
      ...runs.failures.map(
        ({ storage, error }) => `storage ${storage}: its runs could not all be read: ${error.message}`,
      ),
      ...(runs.hasMore ? [`more has run than was read: the newest ${runs.runs.length} runs are counted`] : []),
    ],
    runs: countsOf(ended),
    failures,
    wal: state.wal.map((wal) => ({
      source: wal.source,
      isInTime: judgeWal(wal, at).problems.length === 0,
      earliest: wal.earliest,
      latest: wal.latest,
      lossMs: wal.lagMs,
      gaps: wal.gaps,
      storedBytes: wal.storedBytes,
    })),
    storages: storedIn(state, last),
  };
}

/** What the next digest has to know of this one. */
export function noteOf({ channel, at, storages }: Digest): LastDigest {
  return {
    channel,
    until: at.toISOString(),
    stored: storages.flatMap(({ storage, storedBytes }) =>
      storedBytes === undefined ? [] : [{ storage, bytes: storedBytes }],
    ),
  };
}

function stateOfSources(config: Config, state: ProtectionState, sources: ReadonlySet<string>): ProtectionState {
  const storages = new Set(
    [...config.databases.values()]
      .filter(({ name }) => sources.has(name))
      .flatMap(({ jobs, wal }) => [...[...jobs.values()].flatMap(({ to }) => to), ...(wal?.to ?? [])]),
  );
  return {
    ...state,
    backups: state.backups.filter(({ source }) => sources.has(source)),
    storages: state.storages.filter(({ storage }) => storages.has(storage)),
    probes: state.probes.filter(({ kind, name }) => (kind === 'database' ? sources : storages).has(name)),
    wal: state.wal.filter(({ source }) => sources.has(source)),
  };
}

/** Where nobody has said what is wrong with it. */
function unreadStorages({ storages, probes }: ProtectionState): readonly DigestProblem[] {
  const failing = new Set(probes.flatMap(({ kind, name, failure }) => (kind === 'storage' && failure ? [name] : [])));
  return storages
    .filter(({ storage, readAt }) => readAt === undefined && !failing.has(storage))
    .map(({ storage }) => ({
      sentence: `storage ${storage}: what lies in it could not be read yet`,
      fix: 'pgark doctor says what is wrong with it',
    }));
}

/** It is configured, nobody says when it is to be made, and there is none. */
function isNeverMade({ lastSuccess, expectation }: BackupProtection): boolean {
  return lastSuccess === undefined && expectation.kind === 'none';
}

function neverMade({ source, database, format, storage, lastAttempt }: BackupProtection): DigestProblem {
  const name = source === database ? source : `${source}/${database}`;
  return {
    sentence: `${name} (${format}) on ${storage}: there is no backup, and nothing says when one is to be made`,
    fix: lastAttempt?.error?.hint ?? 'give its job a schedule, or make one now: pgark backup',
  };
}

function databasesOf(state: ProtectionState, broken: readonly BrokenProof[]): readonly DigestDatabase[] {
  const groups = Map.groupBy(state.backups, ({ source, database }) => JSON.stringify([source, database]));
  const brokenWal = new Set(
    state.wal.filter((wal) => judgeWal(wal, state.at).problems.length > 0).map(({ source }) => source),
  );
  const silent = silentOnes(state, state.at);
  return [...groups.values()].flatMap((lines): readonly DigestDatabase[] => {
    const [first] = lines;
    if (first === undefined) return [];
    const { source, database } = first;
    const isUneasy =
      brokenWal.has(source) ||
      silent.servers.has(source) ||
      lines.some(({ storage }) => silent.storages.has(storage)) ||
      state.wal.some(
        (wal) => wal.source === source && wal.storages.some(({ storage }) => silent.storages.has(storage)),
      ) ||
      lines.some(
        (line) => isOverdue(line, state.at) || isDisproved(line) || isNeverMade(line) || line.suspicion !== undefined,
      ) ||
      lines.every(({ lastSuccess }) => lastSuccess === undefined) ||
      broken.some((each) => each.source === source && (each.database === undefined || each.database === database));
    const isPlanned = lines.some(({ expectation }) => expectation.kind === 'expected');
    return [
      {
        source,
        database: database === ANY_DATABASE ? 'all that its patterns choose' : database,
        state: isUneasy ? 'attention' : isPlanned ? 'protected' : 'unscheduled',
        backups: lines.map((line) => backupsOf(line, state.at)),
      },
    ];
  });
}

function backupsOf(line: BackupProtection, now: Date): DigestBackups {
  const { format, storage, lastSuccess, backupCount, nextRunAt, lastDrill } = line;
  return {
    format,
    storage,
    lastGoodAt: lastSuccess?.startedAt ?? 'never',
    lastBytes: lastSuccess?.storedBytes,
    count: backupCount,
    isOverdue: isOverdue(line, now),
    nextRunAt,
    lastDrillAt: lastDrill?.at,
  };
}

/** A run that is over, in one storage or more. */
interface EndedRun {
  readonly run: RunSummary;
  readonly endedAt: Date;
}

/** One that met another at work has done nothing; one without a source, such as a prune, is everybody's. */
function endedIn(
  run: RunSummary,
  { since, until, sources }: { readonly since: Date; readonly until: Date; readonly sources: ReadonlySet<string> },
): readonly EndedRun[] {
  if (run.state === 'running' || (run.source !== undefined && !sources.has(run.source))) return [];
  if (run.storages.every(({ error }) => error?.code === 'locked')) return [];
  const endedAt = new Date(run.endedAt ?? run.startedAt);
  return endedAt > since && endedAt <= until ? [{ run, endedAt }] : [];
}

function countsOf(ended: readonly EndedRun[]): readonly DigestRuns[] {
  const kinds = Map.groupBy(ended, ({ run }) => run.kind);
  return [...kinds].map(([kind, runs]) => {
    const succeeded = runs.filter(({ run }) => run.state === 'succeeded').length;
    return { kind, succeeded, failed: runs.length - succeeded };
  });
}

interface FailedIn {
  readonly run: RunSummary;
  readonly endedAt: Date;
  readonly storage: string;
  readonly error: DigestFailure['error'];
}

/** What failed in the same way is one, in however many storages and however often. */
function failuresOf(ended: readonly EndedRun[]): readonly DigestFailure[] {
  const failed = ended.flatMap(({ run, endedAt }) =>
    run.storages.flatMap(({ storage, state, error }): readonly FailedIn[] => {
      if (state === 'succeeded' || error?.code === 'locked') return [];
      const { code, message, hint } = error ?? { ...INTERRUPTED, hint: errorTable.interrupted.remedy };
      return [{ run, endedAt, storage, error: { code, message, hint } }];
    }),
  );
  const groups = Map.groupBy(failed, ({ run, error }) => JSON.stringify([...lineOf(run), error.code]));
  return [...groups.values()]
    .flatMap((group): readonly DigestFailure[] => {
      const [newest] = group.sort((a, b) => b.endedAt.getTime() - a.endedAt.getTime());
      if (newest === undefined) return [];
      const { run, endedAt, error } = newest;
      const storages = [...new Set(group.map(({ storage }) => storage))].sort();
      return [
        {
          kind: run.kind,
          source: run.source,
          database: run.database,
          storages,
          times: new Set(group.map((each) => each.run.id)).size,
          lastAt: endedAt,
          isOver: storages.every((storage) => hasWorkedSince(ended, group, storage)),
          error,
        },
      ];
    })
    .sort((a, b) => b.lastAt.getTime() - a.lastAt.getTime());
}

function hasWorkedSince(ended: readonly EndedRun[], group: readonly FailedIn[], storage: string): boolean {
  const failedAt = Math.max(
    ...group.filter((each) => each.storage === storage).map(({ endedAt }) => endedAt.getTime()),
  );
  const line = JSON.stringify(lineOf(group[0]?.run));
  return ended.some(
    ({ run, endedAt }) =>
      endedAt.getTime() > failedAt &&
      JSON.stringify(lineOf(run)) === line &&
      run.storages.some((each) => each.storage === storage && each.state === 'succeeded'),
  );
}

function lineOf(run: RunSummary | undefined): readonly (string | null)[] {
  return [run?.kind ?? null, run?.source ?? null, run?.database ?? null];
}

function storedIn(state: ProtectionState, last: LastDigest | undefined): readonly DigestStorage[] {
  return state.storages.map(({ storage, readAt }) => {
    if (readAt === undefined) return { storage };
    const storedBytes = state.backups
      .filter((backup) => backup.storage === storage)
      .reduce((sum, backup) => sum + backup.storedBytes, 0);
    const before = last?.stored.find((each) => each.storage === storage)?.bytes;
    return { storage, storedBytes, ...(before === undefined ? {} : { grownBytes: storedBytes - before }) };
  });
}
