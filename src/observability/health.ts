import { formatBytes, formatDuration } from '../common/bytes.ts';
import { type BackupProtection, isDisproved, isOverdue, type Probe, type ProtectionState } from './protection-state.ts';
import { ago, time } from './times.ts';
import { judgeWal, LATE_MS } from './wal-protection.ts';

/** Servers and storages are probed every five minutes; a probe that is three times as old has stopped coming. */
const PROBE_MS_MAX = 15 * 60_000;
/** The same for what is read of a storage. */
const STORAGE_READ_MS_MAX = 30 * 60_000;
/** A deadline before this was counted from the epoch: nobody knows since when a backup is wanted, and there never was one. */
const BEFORE_ALL_BACKUPS = new Date('2000-01-01T00:00:00Z');
/** Sentences of one kind that are written out; the rest is a number. */
const SENTENCES_MAX = 20;
/** In answers about health: that it is pgark who answers, and whether `healthy`, `unhealthy` or `starting`. */
export const HEALTH_HEADER = 'x-pgark-health';
/** Nagios and its plugins take lines of about this length. */
const NAGIOS_LINE_CHARACTERS_MAX = 4_000;

interface HealthVerdict {
  readonly healthy: boolean;
  /** Each is reason enough to be unhealthy. */
  readonly problems: readonly string[];
  /** Worth knowing; no reason to be unhealthy. */
  readonly notes: readonly string[];
  /** Storages whose contents are not known, so that nothing can be said of their backups. */
  readonly unknown: readonly string[];
}

/**
 * Whether the databases can be reached, the storages too, no newest backup is known to be damaged,
 * every one is as fresh as it should be, and WAL is archived in time. A failed attempt is
 * a note as long as the last good backup is fresh: what counts is what could be restored.
 */
export function healthVerdict(state: ProtectionState, now: Date): HealthVerdict {
  const unread = state.storages.filter(({ readAt }) => readAt === undefined);
  const unknown = unread.map(({ storage }) => `storage ${storage}: what lies in it could not be read yet`);
  const judged = state.wal.map((wal) => ({ source: wal.source, judgement: judgeWal(wal, now) }));
  const problems = healthProblems(state, now).map(({ sentence }) => sentence);
  const notes = [
    ...state.backups.filter((backup) => !isOverdue(backup, now)).flatMap((backup) => describeUnease(backup)),
    ...state.backups.filter(({ isOurs }) => !isOurs).flatMap((backup) => describeDisproof(backup)),
    ...state.backups.flatMap(describeSuspicion),
    ...state.storages.flatMap(({ storage, damagedManifests }) =>
      damagedManifests === 0
        ? []
        : [`storage ${storage}: ${damagedManifests} of its manifests cannot be read; pgark doctor names them`],
    ),
    ...judged.flatMap(({ source, judgement }) => judgement.notes.map((sentence) => describeWal(source, sentence))),
    ...(state.notificationFailures === 0
      ? []
      : [`notifications: ${state.notificationFailures} could not be delivered since the start`]),
  ];
  return { healthy: problems.length + unknown.length === 0, problems, notes, unknown };
}

/** One thing that makes the whole unhealthy. */
export interface HealthProblem {
  readonly sentence: string;
  /** What to do about it, where more is known than that it is so. */
  readonly fix: string | undefined;
}

/** Each reason to be unhealthy that is known for certain. */
export function healthProblems(state: ProtectionState, now: Date): readonly HealthProblem[] {
  const unexplained = (sentence: string): HealthProblem => ({ sentence, fix: undefined });
  return [
    ...state.backups
      .filter(isDisproved)
      .flatMap((backup) => describeDisproof(backup))
      .map((sentence) => ({ sentence, fix: 'pgark backup makes another one; pgark verify says what is wrong' })),
    ...state.backups
      .filter((backup) => isOverdue(backup, now))
      .map((backup) => ({ sentence: describeOverdue(backup, now), fix: backup.lastAttempt?.error?.hint })),
    ...state.probes.flatMap((probe) => describeProbe(probe, now)).map(unexplained),
    ...state.storages.flatMap(({ storage, readAt }) =>
      isReadLongAgo(readAt, now)
        ? [unexplained(`storage ${storage}: was last read at ${time(readAt)} (${ago(readAt, now)})`)]
        : [],
    ),
    ...state.wal.flatMap((wal) =>
      judgeWal(wal, now).problems.map(({ sentence, failure }) => ({
        sentence: describeWal(wal.source, sentence),
        fix: failure?.hint,
      })),
    ),
  ];
}

/** Servers that do not answer, and storages that do not or whose contents are not known as of now. */
export function silentOnes(
  { probes, storages }: Pick<ProtectionState, 'probes' | 'storages'>,
  now: Date,
): { readonly servers: ReadonlySet<string>; readonly storages: ReadonlySet<string> } {
  const failing = probes.filter((probe) => describeProbe(probe, now).length > 0);
  const of = (wanted: Probe['kind']): readonly string[] =>
    failing.flatMap(({ kind, name }) => (kind === wanted ? [name] : []));
  const unread = storages.filter(({ readAt }) => readAt === undefined || isReadLongAgo(readAt, now));
  return {
    servers: new Set(of('database')),
    storages: new Set([...of('storage'), ...unread.map(({ storage }) => storage)]),
  };
}

function isReadLongAgo(readAt: Date | undefined, now: Date): readAt is Date {
  return readAt !== undefined && now.getTime() - readAt.getTime() > STORAGE_READ_MS_MAX;
}

/** What a command prints and exits with. */
export interface HealthReport {
  readonly text: string;
  readonly exit: number;
}

/** For `pgark healthcheck`: 0 healthy, 1 unhealthy; Docker reserves every other status. */
export function healthcheckReport(state: ProtectionState, now: Date): HealthReport & { readonly exit: 0 | 1 } {
  const { healthy, problems, notes, unknown } = healthVerdict(state, now);
  const lines = [
    healthy ? `healthy: ${summary(state)}` : 'unhealthy',
    ...atMost(
      [...problems, ...unknown].map((sentence) => `✖ ${sentence}`),
      'problems',
    ),
    ...atMost(
      notes.map((sentence) => `! ${sentence}`),
      'notes',
    ),
  ];
  return { text: `${lines.map(oneLine).join('\n')}\n`, exit: healthy ? 0 : 1 };
}

/**
 * For `pgark check --nagios`: one line of status and performance data, and 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, as the
 * Nagios plugin development guidelines say (https://nagios-plugins.org/doc/guidelines.html).
 */
export function nagiosReport(state: ProtectionState, now: Date): HealthReport & { readonly exit: 0 | 1 | 2 | 3 } {
  const { problems, notes, unknown } = healthVerdict(state, now);
  const [word, exit] = nagiosStatus(problems.length, unknown.length, notes.length);
  const sentences = [...problems, ...unknown, ...notes];
  const said = sentences.length === 0 ? summary(state) : sentences.join('; ');
  // A bar would begin the performance data.
  const status = oneLine(`PGARK ${word} - ${said}`).replaceAll('|', '/');
  return { text: `${shorten(status)} | ${performanceData(state, now)}\n`, exit };
}

function nagiosStatus(
  problems: number,
  unknown: number,
  notes: number,
): readonly ['OK' | 'WARNING' | 'CRITICAL' | 'UNKNOWN', 0 | 1 | 2 | 3] {
  if (problems > 0) return ['CRITICAL', 2];
  if (unknown > 0) return ['UNKNOWN', 3];
  return notes > 0 ? ['WARNING', 1] : ['OK', 0];
}

/** `label=value[unit];warn;crit;min`. Sums only: hundreds of databases still make one line. */
function performanceData(state: ProtectionState, now: Date): string {
  const overdue = state.backups.filter((backup) => isOverdue(backup, now)).length;
  const disproved = state.backups.filter(isDisproved).length;
  const data = [`overdue=${overdue};;0;0`, `failed_proofs=${disproved};;0;0`];
  const ages = expectedBackups(state).flatMap(({ lastSuccess }) =>
    lastSuccess === undefined
      ? []
      : [Math.max(0, Math.round((now.getTime() - lastSuccess.startedAt.getTime()) / 1_000))],
  );
  if (ages.length > 0) data.push(`oldest_backup_age=${Math.max(...ages)}s;;;0`);
  const lags = state.wal.flatMap(({ lagMs }) => (lagMs === undefined ? [] : [Math.round(lagMs / 1_000)]));
  if (lags.length > 0) data.push(`wal_lag=${Math.max(...lags)}s;;${LATE_MS / 1_000};0`);
  data.push(`backups=${total(state, 'backupCount')};;;0`, `stored=${total(state, 'storedBytes')}B;;;0`);
  return data.join(' ');
}

function summary(state: ProtectionState): string {
  const expected = expectedBackups(state);
  const fresh = expected.filter(({ lastSuccess }) => lastSuccess !== undefined);
  const what =
    expected.length === 0
      ? 'no backup is expected at any time'
      : `${fresh.length} of ${expected.length} scheduled backups are there and fresh`;
  const lags = state.wal.flatMap(({ lagMs }) => lagMs ?? []);
  const wal = lags.length === 0 ? '' : `; WAL archived up to ${formatDuration(Math.max(...lags))} ago`;
  return `${what}${wal}; ${total(state, 'backupCount')} backups, ${formatBytes(total(state, 'storedBytes'))}`;
}

function expectedBackups(state: ProtectionState): readonly BackupProtection[] {
  return state.backups.filter(({ expectation }) => expectation.kind === 'expected');
}

function total(state: ProtectionState, what: 'backupCount' | 'storedBytes'): number {
  return state.backups.reduce((sum, backup) => sum + backup[what], 0);
}

/** `shop on r2`, `main/shop (directory) on r2`: as little as tells it apart for a person. */
function nameOf({ source, database, format, storage }: BackupProtection): string {
  const name = source === database ? database : `${source}/${database}`;
  return `${name}${format === 'plain' ? '' : ` (${format})`} on ${storage}`;
}

function describeOverdue(backup: BackupProtection, now: Date): string {
  const { expectation, lastSuccess, running } = backup;
  if (expectation.kind === 'none') return '';
  const going = running === undefined ? '' : `; a run is at work since ${time(running.startedAt)}`;
  if (lastSuccess === undefined && expectation.by < BEFORE_ALL_BACKUPS) {
    return `${nameOf(backup)}: overdue: there is no backup${describeFailure(backup)}${going}`;
  }
  const since = `overdue since ${time(expectation.by)} (${ago(expectation.by, now)})`;
  const last =
    lastSuccess === undefined ? 'there is no backup' : `the newest backup is of ${time(lastSuccess.startedAt)}`;
  const wanted =
    expectation.dueAt === undefined
      ? `and may be ${formatDuration(expectation.maxAgeMs ?? 0)} old`
      : `and one was due at ${time(expectation.dueAt)}`;
  return `${nameOf(backup)}: ${since}: ${last}, ${wanted}${describeFailure(backup)}${going}`;
}

function describeFailure({ lastAttempt }: BackupProtection): string {
  if (lastAttempt === undefined || lastAttempt.outcome === 'succeeded') return '';
  const why = lastAttempt.error === undefined ? '' : `: ${lastAttempt.error.message}`;
  return `; the last attempt (${time(lastAttempt.at)}) ${lastAttempt.outcome === 'failed' ? 'failed' : 'was interrupted'}${why}`;
}

/** Not overdue, and yet not as it should be. */
function describeUnease(backup: BackupProtection): string[] {
  const failure = describeFailure(backup);
  if (failure === '' && (backup.lastSuccess !== undefined || backup.expectation.kind === 'none')) return [];
  const has =
    backup.lastSuccess === undefined
      ? 'no backup yet'
      : `the newest backup is of ${time(backup.lastSuccess.startedAt)}`;
  const by = backup.expectation.kind === 'none' ? '' : `; overdue from ${time(backup.expectation.by)} on`;
  return [`${nameOf(backup)}: ${has}${by}${failure}`];
}

/** What a verification or a drill has found out, and no later one has refuted. */
function describeDisproof(backup: BackupProtection): string[] {
  const { disproof } = backup;
  if (disproof === undefined) return [];
  const { id, kind, at } = disproof;
  const [what, proof] =
    kind === 'verify'
      ? ['is known to be damaged or unreadable', 'verification']
      : ['is known not to restore as it should', 'drill'];
  return [
    `${nameOf(backup)}: the newest backup, ${id}, ${what}: its ${proof} of ${time(at)} failed, and nothing has proven it since`,
  ];
}

function describeSuspicion(backup: BackupProtection): string[] {
  return suspicionProblems({ backups: [backup] }).map(({ sentence, fix }) => `${sentence}; ${fix}`);
}

/** Newest backups of a suspicious size that nobody has accepted. */
export function suspicionProblems({ backups }: Pick<ProtectionState, 'backups'>): readonly HealthProblem[] {
  return backups.flatMap((backup) => {
    const { suspicion } = backup;
    if (suspicion === undefined) return [];
    const sentence = `${nameOf(backup)}: the newest backup, ${suspicion.id}, is suspicious: ${suspicion.why}`;
    return [{ sentence, fix: `nothing is pruned after it; if its size is right: pgark accept ${suspicion.id}` }];
  });
}

function describeWal(source: string, sentence: string): string {
  return `WAL of ${source}: ${sentence}`;
}

function describeProbe({ kind, name, at, failure }: Probe, now: Date): string[] {
  if (failure !== undefined) return [`${kind} ${name}: ${failure}`];
  if (now.getTime() - at.getTime() <= PROBE_MS_MAX) return [];
  return [`${kind} ${name}: was last probed at ${time(at)} (${ago(at, now)})`];
}

function atMost(lines: readonly string[], what: string): readonly string[] {
  if (lines.length <= SENTENCES_MAX) return lines;
  return [...lines.slice(0, SENTENCES_MAX), `… and ${lines.length - SENTENCES_MAX} more ${what}`];
}

function shorten(line: string): string {
  return line.length <= NAGIOS_LINE_CHARACTERS_MAX ? line : `${line.slice(0, NAGIOS_LINE_CHARACTERS_MAX - 1)}…`;
}

/** Names and messages are other people's; none of them begins a line of its own. */
function oneLine(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f]+/g, ' ');
}
