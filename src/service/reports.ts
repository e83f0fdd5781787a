import type { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import type { EventError, NotificationEvent } from '../notify/message.ts';
import type { Verification, VerifyDepth } from '../operations/verify.ts';
import type { BackupKind } from '../repository/ids.ts';
import { parseManifestKey } from '../repository/keys.ts';

/** What a run came to at one destination. Plain data; as free of secrets as the log. */
export interface BackupReport {
  readonly source: string;
  /** Undefined: the source as a whole. */
  readonly database: string | undefined;
  readonly job: string;
  readonly storage: string;
  readonly runId?: string | undefined;
  readonly startedAt: Date;
  readonly endedAt: Date;
  /** Of the backup that was committed. */
  readonly backupId?: string | undefined;
  readonly storedBytes?: number | undefined;
  /** Of a full backup that was committed: why it is suspicious, empty if it is not. */
  readonly suspicions?: readonly string[] | undefined;
  /** Why there is no backup at this destination. */
  readonly error?: PgarkError | undefined;
  /** When the newest backup that is there was made. Absent: it is looked for in the storage, if it matters. */
  readonly lastGoodAt?: Date | 'never' | undefined;
  /** When the daemon tries next. */
  readonly nextTryAt?: Date | undefined;
  /** What pruning the old backups at this destination came to, if it was tried. */
  readonly pruned?: { readonly error?: PgarkError | undefined } | undefined;
  /** The last part of the run's log. */
  readonly log?: string | undefined;
}

/** A run of a job that begins. */
export type BackupStart = Pick<BackupReport, 'source' | 'database' | 'job' | 'runId' | 'startedAt'>;

/** What a prune of one database's backups in one storage came to. */
export interface PruneReport {
  readonly source: string;
  readonly database: string | undefined;
  readonly storage: string;
  readonly endedAt: Date;
  readonly error?: PgarkError | undefined;
}

/** What a verification of a storage came to. */
export interface VerifyReport {
  readonly storage: string;
  readonly endedAt: Date;
  readonly backups: Verification['backups'];
  readonly damaged: Verification['damaged'];
  /** Whether all backups of each database were looked at, not one that was picked. */
  readonly complete: boolean;
}

/** A verification that did not get at the backups of a source in a storage. */
export interface UnverifiedReport {
  readonly source: string;
  readonly storage: string;
  readonly endedAt: Date;
  readonly error: PgarkError;
}

/** What a test restore came to. */
export interface DrillReport {
  readonly source: string;
  /** Of the backup, if one was found. */
  readonly database: string | undefined;
  readonly kind: BackupKind | undefined;
  readonly storage: string;
  readonly endedAt: Date;
  readonly backupId: string | undefined;
  readonly runId: string | undefined;
  readonly error: PgarkError | undefined;
}

export function startEvents(starts: readonly BackupStart[]): readonly NotificationEvent[] {
  return starts.map(({ source, database, job, runId, startedAt }) => ({
    event: 'start',
    at: startedAt,
    source,
    ...(database === undefined ? {} : { database }),
    job,
    ...(runId === undefined ? {} : { runId }),
  }));
}

/**
 * One success for a job that reached all of its destinations, else one for each that was reached; a failure for each that
 * was not. A run that met another one at work has nothing to tell: that other one will.
 */
export function backupEvents(config: Config, reports: readonly BackupReport[]): readonly NotificationEvent[] {
  const told = reports.filter(({ error }) => error?.code !== 'locked');
  const runs = Map.groupBy(told, ({ source, database, job }) => JSON.stringify([source, database, job]));
  const prunes = told.flatMap(({ pruned, ...report }) =>
    pruned === undefined ? [] : [{ ...report, error: pruned.error }],
  );
  return [
    ...[...runs.values()].flatMap((run) => eventsOfRun(config, run)),
    ...told.flatMap(sizeEvents),
    ...pruneEvents(prunes),
  ];
}

/** A suspicious backup is a problem until there is one of the same job that is not. */
function sizeEvents(report: BackupReport): readonly NotificationEvent[] {
  const { source, database, job, storage, runId, endedAt: at, backupId, suspicions } = report;
  if (suspicions === undefined || backupId === undefined) return [];
  const about = {
    at,
    source,
    ...(database === undefined ? {} : { database }),
    job,
    storage,
    ...(runId === undefined ? {} : { runId }),
  };
  if (suspicions.length === 0) return [{ ...about, event: 'resolved', of: 'suspicious' }];
  const hint = `look at what it holds: pgark show ${backupId}. If its size is right, say so: pgark accept ${backupId}`;
  const error = { code: 'suspicious-size', message: suspicions.join('; '), hint };
  return [{ ...about, event: 'suspicious', error, backupId }];
}

function eventsOfRun(config: Config, reports: readonly BackupReport[]): readonly NotificationEvent[] {
  const [first] = reports;
  if (first === undefined) return [];
  const failures = reports.filter(({ error }) => error !== undefined);
  // One run of a job is one sign to a watchdog, also where each destination had a run of its own.
  const runId = (failures[0] ?? first).runId;
  const events = reports.map((report) => eventOf(report, runId));
  const reached = new Set(reports.map(({ storage }) => storage));
  const wanted = config.databases.get(first.source)?.jobs.get(first.job)?.to;
  const isWhole = failures.length === 0 && wanted?.every((storage) => reached.has(storage)) === true;
  if (!isWhole) return events;
  const [success] = events;
  if (success === undefined) return [];
  const { storage: _, ...whole } = success;
  const endedAt = new Date(Math.max(...reports.map((report) => report.endedAt.getTime())));
  return [{ ...whole, at: endedAt }];
}

function eventOf(report: BackupReport, runId: string | undefined): NotificationEvent {
  const { source, database, job, storage, startedAt, endedAt, error, log, nextTryAt } = report;
  const about = {
    at: endedAt,
    source,
    ...(database === undefined ? {} : { database }),
    job,
    storage,
    startedAt,
    ...(runId === undefined ? {} : { runId }),
    ...(log === undefined ? {} : { log }),
    ...(nextTryAt === undefined ? {} : { nextTryAt }),
  };
  if (error === undefined) {
    const { backupId, storedBytes } = report;
    return {
      ...about,
      event: 'success',
      ...(backupId === undefined ? {} : { backupId }),
      ...(storedBytes === undefined ? {} : { storedBytes }),
    };
  }
  const { lastGoodAt } = report;
  return {
    ...about,
    event: 'failure',
    error: eventError(error),
    ...(lastGoodAt === undefined ? {} : { lastGoodAt }),
  };
}

/** A prune that was refused is a problem until one is carried out. Other failures of a prune say nothing of either. */
export function pruneEvents(reports: readonly PruneReport[]): readonly NotificationEvent[] {
  return reports.flatMap(({ source, database, storage, endedAt, error }): NotificationEvent[] => {
    const about = { at: endedAt, source, ...(database === undefined ? {} : { database }), storage };
    if (error === undefined) return [{ ...about, event: 'resolved', of: 'prune_refused' }];
    return error.code === 'prune-refused' ? [{ ...about, event: 'prune_refused', error: eventError(error) }] : [];
  });
}

/** A drill that fails is a problem until one of the same kind passes: a dump that loads says nothing of a server's files. */
export function drillEvents(report: DrillReport): readonly NotificationEvent[] {
  const { source, database, kind, storage, endedAt, backupId, runId, error } = report;
  const about = {
    at: endedAt,
    source,
    ...(database === undefined ? {} : { database }),
    ...(kind === undefined ? {} : { job: kind === 'physical' ? 'drill of the server' : 'drill of dumps' }),
    storage,
    ...(runId === undefined ? {} : { runId }),
  };
  if (error === undefined) return [{ ...about, event: 'resolved', of: 'drill_failed' }];
  if (error.code === 'interrupted') return [];
  return [
    {
      ...about,
      event: 'drill_failed',
      error: eventError(error),
      ...(backupId === undefined ? {} : { backupId }),
    },
  ];
}

/**
 * A database with a damaged backup is a problem, told of the newest one; it is over when all of its backups were looked at
 * and none is known to be damaged, be it from now or from an earlier look (`stillDamaged`: ids) and not refuted since.
 */
export function verifyEvents(report: VerifyReport, stillDamaged: ReadonlySet<string>): readonly NotificationEvent[] {
  const { storage, endedAt: at, complete } = report;
  const checks: readonly Check[] = [...report.backups.map(checkOf), ...report.damaged.flatMap(checkOfDamaged)];
  const databases = Map.groupBy(checks, ({ source, database }) => JSON.stringify([source, database]));
  return [...databases.values()].flatMap((group): NotificationEvent[] => {
    const [first] = group;
    if (first === undefined) return [];
    const about = { at, source: first.source, database: first.database, storage };
    const newestFailed = group
      .filter(({ failure }) => failure !== undefined)
      .reduce<Check | undefined>((newest, each) => (newest && newest.id > each.id ? newest : each), undefined);
    if (newestFailed?.failure !== undefined) {
      const { failure, id } = newestFailed;
      return [{ ...about, event: 'verify_failed', error: eventError(failure), backupId: id }];
    }
    const isKnownGood = group.every(({ depth, id }) => depth === 'read' || !stillDamaged.has(id));
    if (!complete || !isKnownGood || group.every(({ depth }) => depth === 'present')) return [];
    return [{ ...about, event: 'resolved', of: 'verify_failed' }];
  });
}

/** A problem of the source in that storage, until any database's backups there were verified. */
export function unverifiedEvents({ source, storage, endedAt, error }: UnverifiedReport): readonly NotificationEvent[] {
  if (error.code === 'interrupted') return [];
  const { runId } = error;
  const about = { at: endedAt, source, storage, ...(runId === undefined ? {} : { runId }) };
  return [{ ...about, event: 'verify_failed', error: eventError(error) }];
}

/** Whose backups it is about. */
export function verifiedSources(report: VerifyReport): readonly { readonly source: string }[] {
  return [...report.backups.map(checkOf), ...report.damaged.flatMap(checkOfDamaged)];
}

interface Check {
  readonly source: string;
  readonly database: string;
  readonly id: string;
  readonly depth: VerifyDepth;
  readonly failure: PgarkError | undefined;
}

function checkOf({ manifest, depth, failure }: Verification['backups'][number]): Check {
  const { source, database, id } = manifest;
  return { source, database: database.name, id, depth, failure };
}

/** Of a manifest that cannot be read its key still says whose it is. */
function checkOfDamaged({ key, error }: Verification['damaged'][number]): readonly Check[] {
  const parsed = parseManifestKey(key);
  return parsed === undefined ? [] : [{ ...parsed, depth: 'present', failure: error }];
}

function eventError({ code, message, hint }: PgarkError): EventError {
  return { code, message, hint };
}
