import type { ObjectKey } from '../storage/object-store.ts';
import { type BackupId, isRunId, type RunId } from './ids.ts';
import { decodeName, encodeName } from './names.ts';

/** Everything that is pgark's own beside the data objects lies under this prefix. */
export const STATE_PREFIX = '.pgark/';
/** After every key of the state that pgark writes: their folders' names begin with letters. */
export const STATE_END = `${STATE_PREFIX}~`;
const COMPACTED = 'compacted-';
const DRILL = '.drill';

/** What has proven a backup: that it was read to its end, or that it was restored. */
export type ProofKind = 'verify' | 'drill';

/** The keys of the repository's layout 1 (docs/format.md). No other module knows how a key is spelled. */
export const keys = {
  repository: `${STATE_PREFIX}repository.json`,
  manifestsPrefix: `${STATE_PREFIX}backups/`,
  manifestsOfSource: (source: string): string => `${STATE_PREFIX}backups/${encodeName(source)}/`,
  manifestsOf: (source: string, database: string): string =>
    `${STATE_PREFIX}backups/${encodeName(source)}/${encodeName(database)}/`,
  manifest: (source: string, database: string, id: BackupId): ObjectKey =>
    `${keys.manifestsOf(source, database)}${id}.json`,
  intentsPrefix: `${STATE_PREFIX}intents/`,
  intent: (id: BackupId): ObjectKey => `${STATE_PREFIX}intents/${id}.json`,
  deletedPrefix: `${STATE_PREFIX}deleted/`,
  deleted: (id: BackupId): ObjectKey => `${STATE_PREFIX}deleted/${id}.json`,
  notifications: `${STATE_PREFIX}notifications.json`,
  leasesPrefix: `${STATE_PREFIX}leases/`,
  lease: (name: string): ObjectKey => `${STATE_PREFIX}leases/${encodeName(name)}.json`,
  runsPrefix: `${STATE_PREFIX}runs/`,
  run: (startedAt: Date, id: RunId): ObjectKey => `${STATE_PREFIX}runs/${monthOf(startedAt)}/${id}.json`,
  /** Sorts after the month's records of single runs: who lists sees a run in one of the two at least. */
  compactedRunsPrefix: (month: string): string => `${STATE_PREFIX}runs/${month}/${COMPACTED}`,
  /** `id` is made like a run's, and unique: an object of this kind is never written over. */
  compactedRuns: (month: string, id: RunId): ObjectKey => `${keys.compactedRunsPrefix(month)}${id}.json.gz`,
  runLogsPrefix: `${STATE_PREFIX}logs/`,
  runLog: (startedAt: Date, id: RunId): ObjectKey => `${STATE_PREFIX}logs/${monthOf(startedAt)}/${id}.log`,
  schedule: (source: string, job: string): ObjectKey =>
    `${STATE_PREFIX}schedule/${encodeName(source)}/${encodeName(job)}.json`,
  proofsPrefix: `${STATE_PREFIX}proofs/`,
  proofsOfDatabase: (source: string, database: string): string =>
    `${STATE_PREFIX}proofs/${encodeName(source)}/${encodeName(database)}/`,
  proofsOf: (source: string, database: string, id: BackupId): string =>
    `${keys.proofsOfDatabase(source, database)}${id}/`,
  /** Sorted by time; of what kind it is, its name says, so that nobody reads all to find the last of a kind. */
  proof: (source: string, database: string, id: BackupId, at: Date, kind: ProofKind): ObjectKey =>
    `${keys.proofsOf(source, database, id)}${at.toISOString()}${kind === 'drill' ? DRILL : ''}.json`,
  pinsPrefix: `${STATE_PREFIX}pins/`,
  pin: (id: BackupId): ObjectKey => `${STATE_PREFIX}pins/${id}.json`,
  readingPrefix: `${STATE_PREFIX}reading/`,
  readingOf: (id: BackupId): string => `${keys.readingPrefix}${id}/`,
  /** `token` is the reader's own, so that nobody writes over the hold of another. */
  reading: (id: BackupId, token: string): ObjectKey => `${keys.readingOf(id)}${token}.json`,
  acceptedSizesPrefix: `${STATE_PREFIX}accepted/`,
  acceptedSize: (id: BackupId): ObjectKey => `${STATE_PREFIX}accepted/${id}.json`,
  archivePrefix: (source: string, id: BackupId): string => `${encodeName(source)}/archive/${id}/`,
  basePrefix: (source: string, id: BackupId): string => `${encodeName(source)}/base/${id}/`,
  /** Without the endings of compression and encryption. */
  globals: (source: string, id: BackupId): ObjectKey => `${encodeName(source)}/globals/${id}.sql`,
  globalsRecordsPrefix: `${STATE_PREFIX}globals/`,
  globalsRecordsOf: (source: string): string => `${STATE_PREFIX}globals/${encodeName(source)}/`,
  globalsRecord: (source: string, id: BackupId): ObjectKey => `${keys.globalsRecordsOf(source)}${id}.json`,
  companion: (id: BackupId): ObjectKey => `${STATE_PREFIX}companions/${id}.json`,
  walPrefix: (source: string, systemIdentifier: string): string => `${encodeName(source)}/wal/${systemIdentifier}/`,
  walRecordsPrefix: `${STATE_PREFIX}wal/`,
  walRecordsOf: (source: string): string => `${STATE_PREFIX}wal/${encodeName(source)}/`,
  walRecord: (source: string, systemIdentifier: string): ObjectKey =>
    `${keys.walRecordsOf(source)}${systemIdentifier}.json`,
} as const;

/** The id of the backup that a proof is of, what has proven it, and when; the epoch where that cannot be read. */
export function parseProofKey(key: ObjectKey): { readonly id: string; readonly kind: ProofKind; readonly at: Date } {
  const [id = '', name = ''] = key.split('/').slice(-2);
  const time = Date.parse(/^[^.]*\.\d+Z/.exec(name)?.[0] ?? '');
  return { id, kind: key.endsWith(`${DRILL}.json`) ? 'drill' : 'verify', at: new Date(Number.isNaN(time) ? 0 : time) };
}

/** Source, database and id that a manifest's key says; undefined for keys that are no manifest's. */
export function parseManifestKey(key: ObjectKey): { source: string; database: string; id: string } | undefined {
  if (!key.startsWith(keys.manifestsPrefix) || !key.endsWith('.json')) return undefined;
  const segments = key.slice(keys.manifestsPrefix.length, -'.json'.length).split('/');
  const [sourceSegment, databaseSegment, id] = segments;
  if (segments.length !== 3 || sourceSegment === undefined || databaseSegment === undefined || id === undefined)
    return undefined;
  const source = decodeName(sourceSegment);
  const database = decodeName(databaseSegment);
  return source === undefined || database === undefined ? undefined : { source, database, id };
}

/** What lies under a key of `runsPrefix`: one run's record, or many in one object. `month` is as keys spell it. */
export type RunKey =
  | { readonly kind: 'single'; readonly month: string; readonly id: RunId }
  | { readonly kind: 'compacted'; readonly month: string; readonly id: RunId };

/** Undefined for keys that are neither. */
export function parseRunKey(key: ObjectKey): RunKey | undefined {
  const match = /^(\d{4}-\d{2})\/(compacted-)?([^./]+)(\.json|\.json\.gz)$/.exec(key.slice(keys.runsPrefix.length));
  if (match === null || !key.startsWith(keys.runsPrefix)) return undefined;
  const [, month = '', compacted, id = '', ending] = match;
  if (!isRunId(id) || (compacted === undefined) !== (ending === '.json')) return undefined;
  return { kind: compacted === undefined ? 'single' : 'compacted', month, id };
}

/** The run that a key of `runLogsPrefix` is of. */
export function parseRunLogKey(key: ObjectKey): RunId | undefined {
  const id = key.slice(key.lastIndexOf('/') + 1).replace(/\.log$/, '');
  return key.startsWith(keys.runLogsPrefix) && key.endsWith('.log') && isRunId(id) ? id : undefined;
}

/** `2026-11`, UTC. */
export function monthOf(time: Date): string {
  return time.toISOString().slice(0, 7);
}
