import { Registry } from '@prometheus-io/client';
import {
  type BackupProtection,
  isOverdue,
  type ProtectionState,
  type RunningRun,
  type StorageRuns,
} from './protection-state.ts';
import { durationBoundsSeconds, emptyCounts, groupKey, runOutcomes } from './run-tally.ts';
import { judgeWal, type WalProtection, type WalStorage } from './wal-protection.ts';

/** What Prometheus is told the text is. */
export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

type Labels = Readonly<Record<string, string>>;

interface Sample {
  readonly value: number;
  readonly labels: Labels;
  /** Of a histogram's series, whose names are not the family's own. */
  readonly metricName?: string;
}

/** One metric with its series, as the client library's registries exchange them (`Registry.getMetricsAsJSON`). */
interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter' | 'histogram';
  /** There is one value for each set of labels; the library wants to know what it would do with several. */
  readonly aggregator: 'first';
  readonly values: readonly Sample[];
}

/**
 * The state as Prometheus reads it. No series for what is not known: an absent value says so, a zero would lie. Names and
 * labels are a promise to those who wrote alerts; no label takes a new value with each backup.
 */
export async function renderMetrics(state: ProtectionState, version: string): Promise<string> {
  return Registry.aggregate([families(state, version)]).metrics();
}

function families(state: ProtectionState, version: string): Family[] {
  const { backups, at: now } = state;
  const ofBackups = (
    name: string,
    help: string,
    value: (backup: BackupProtection) => number | undefined,
    among: readonly BackupProtection[] = backups,
  ): Family =>
    gauge(
      name,
      help,
      among.flatMap((backup) => sample(value(backup), seriesLabels(backup))),
    );
  return [
    ofBackups(
      'pgark_backup_last_success_timestamp_seconds',
      'When the newest backup that is there was finished.',
      ({ lastSuccess }) => lastSuccess && seconds(lastSuccess.endedAt.getTime()),
    ),
    ofBackups(
      'pgark_backup_last_attempt_timestamp_seconds',
      'When the last attempt to back up ended. Later than the last success: it failed or was interrupted.',
      ({ lastAttempt }) => lastAttempt && seconds(lastAttempt.at.getTime()),
    ),
    ofBackups(
      'pgark_backup_last_duration_seconds',
      'How long the newest backup took.',
      ({ lastSuccess }) => lastSuccess && seconds(lastSuccess.durationMs),
    ),
    ofBackups(
      'pgark_backup_last_size_bytes',
      'Bytes that the newest backup takes in its storage.',
      ({ lastSuccess }) => lastSuccess?.storedBytes,
    ),
    ofBackups(
      'pgark_backup_overdue',
      '1 if the next backup should have been there by now, by its schedule or by the age allowed; else 0.',
      (backup) => (backup.expectation.kind === 'none' ? undefined : Number(isOverdue(backup, now))),
    ),
    ofBackups(
      'pgark_backup_suspicious',
      '1 if the newest full backup has a suspicious size that nobody has accepted; else 0.',
      ({ lastSuccess, suspicion }) => lastSuccess && Number(suspicion !== undefined),
    ),
    ofBackups(
      'pgark_backup_proof_failed',
      '1 if the newest backup is known to be damaged or not to restore as it should; 0 if nobody has found that out.',
      ({ lastSuccess, isOurs, disproof }) => (isOurs && lastSuccess ? Number(disproof !== undefined) : undefined),
    ),
    ofBackups(
      'pgark_backup_next_run_timestamp_seconds',
      'When the next backup is scheduled.',
      ({ nextRunAt }) => nextRunAt && seconds(nextRunAt.getTime()),
    ),
    ofBackups(
      'pgark_drill_last_success_timestamp_seconds',
      'When a test restore of such a backup passed last.',
      ({ lastDrill }) => lastDrill && seconds(lastDrill.at.getTime()),
    ),
    ofBackups(
      'pgark_drill_restore_seconds',
      'How long the restore took in the test restore that passed last.',
      ({ lastDrill }) => lastDrill && seconds(lastDrill.restoreMs),
    ),
    ofBackups(
      'pgark_verify_last_success_timestamp_seconds',
      'When a verification last found the newest such backup whole.',
      ({ verification }) => verification.lastSuccessAt && seconds(verification.lastSuccessAt.getTime()),
    ),
    ofBackups(
      'pgark_verify_overdue',
      '1 if two times of the schedule of verifications have passed and none of the newest backup has; else 0.',
      ({ verification }) => (verification.isOverdue === undefined ? undefined : Number(verification.isOverdue)),
    ),
    ofBackups(
      'pgark_storage_bytes',
      'Bytes of all backups in the storage.',
      ({ storedBytes }) => storedBytes,
      read(state),
    ),
    ofBackups('pgark_storage_backups', 'Backups in the storage.', ({ backupCount }) => backupCount, read(state)),
    ...storageFamilies(state.storages),
    ...runFamilies(withExpectedRuns(state)),
    ...walFamilies(state.wal, now),
    gauge('pgark_run_progress_ratio', 'How far a run is, 0 to 1, by an estimate.', progressSamples(state.running)),
    {
      ...gauge('pgark_notification_failures_total', 'Notifications that could not be delivered, since the start.', [
        { value: state.notificationFailures, labels: {} },
      ]),
      type: 'counter',
    },
    gauge('pgark_build_info', 'Always 1; the label is the version of pgark.', [{ value: 1, labels: { version } }]),
  ];
}

function gauge(name: string, help: string, values: readonly Sample[]): Family {
  return { name, help, type: 'gauge', aggregator: 'first', values };
}

function sample(value: number | undefined, labels: Labels): Sample[] {
  return value === undefined ? [] : [{ value, labels }];
}

/** Of storages as a whole: how old it is what all the others say of them. An alert on that has to outlive a restart: never is 0. */
function storageFamilies(storages: ProtectionState['storages']): Family[] {
  return [
    gauge(
      'pgark_storage_last_read_timestamp_seconds',
      'When what lies in the storage was last read; 0 as long as it could not be since the start.',
      storages.map(({ storage, readAt }) => ({ value: seconds(readAt?.getTime() ?? 0), labels: { storage } })),
    ),
    gauge(
      'pgark_storage_damaged_manifests',
      'Backups whose manifest cannot be read; none of the other metrics counts them.',
      storages.flatMap(({ storage, readAt, damagedManifests }) =>
        readAt === undefined ? [] : [{ value: damagedManifests, labels: { storage } }],
      ),
    ),
  ];
}

/** What lies in a storage that could not be read yet is not known to be nothing. */
function read(state: ProtectionState): readonly BackupProtection[] {
  const unread = new Set(state.storages.filter(({ readAt }) => readAt === undefined).map(({ storage }) => storage));
  return state.backups.filter((backup) => !unread.has(backup.storage));
}

/** A counter that first shows with its first failure hides that failure from `increase()`: what will be counted starts at 0. */
function withExpectedRuns(state: ProtectionState): readonly StorageRuns[] {
  const runs = new Map(state.runs.map((known) => [runsKey(known.storage, groupKey(known.counts)), known]));
  const expected = [
    ...read(state).map(({ source, database, storage }) => ({ kind: 'backup', source, database, storage }) as const),
    ...state.storages.flatMap(({ storage, readAt }) =>
      readAt === undefined ? [] : [{ kind: 'prune', storage } as const],
    ),
  ];
  for (const { storage, ...group } of expected) {
    const key = runsKey(storage, groupKey(group));
    if (!runs.has(key)) runs.set(key, { storage, counts: emptyCounts(group) });
  }
  return [...runs.values()];
}

function runsKey(storage: string, group: string): string {
  return JSON.stringify([storage, group]);
}

function walFamilies(wal: readonly WalProtection[], now: Date): Family[] {
  const of = (name: string, help: string, value: (each: WalProtection) => number | undefined): Family =>
    gauge(
      name,
      help,
      wal.flatMap((each) => sample(value(each), { source: each.source })),
    );
  const ofStorages = (name: string, help: string, value: (each: WalStorage) => number | undefined): Family =>
    gauge(
      name,
      help,
      wal.flatMap(({ source, storages }) =>
        storages.flatMap((each) => sample(value(each), { source, storage: each.storage })),
      ),
    );
  return [
    of(
      'pgark_pitr_earliest_timestamp_seconds',
      'The earliest moment that the server can be brought back to, without a gap up to the latest.',
      ({ earliest }) => earliest && seconds(earliest.getTime()),
    ),
    of(
      'pgark_pitr_latest_timestamp_seconds',
      'The latest moment that the server can be brought back to, by its own clock: all that was committed by then is archived.',
      ({ latest }) => latest && seconds(latest.getTime()),
    ),
    of(
      'pgark_wal_lag_seconds',
      'How long ago it was that all that the server had committed was archived.',
      ({ lagMs }) => (lagMs === undefined ? undefined : seconds(lagMs)),
    ),
    of(
      'pgark_wal_lag_bytes',
      'WAL that the server has written and that is not archived: what would be lost with it now.',
      ({ lagBytes }) => lagBytes,
    ),
    of('pgark_wal_stored_bytes', 'What the archived WAL takes in the storage.', ({ storedBytes }) => storedBytes),
    of('pgark_wal_gaps', 'Gaps in the archived WAL: no recovery goes through one.', ({ gaps }) => gaps),
    of(
      'pgark_slot_retained_bytes',
      'WAL that the server keeps for the replication slot.',
      ({ slot }) => slot?.retainedBytes,
    ),
    of(
      'pgark_slot_limit_bytes',
      'WAL that the server may keep for the replication slot before it is dropped or lost; missing where nothing limits it.',
      ({ slot }) => slot?.limitBytes,
    ),
    of('pgark_wal_overdue', '1 if WAL is not archived in time, in one of its storages at least; else 0.', (each) =>
      Number(judgeWal(each, now).problems.some(({ kind }) => kind === 'lag')),
    ),
    ofStorages(
      'pgark_wal_storage_lag_seconds',
      'How long ago it was that the storage had all that the server had committed.',
      ({ lagMs }) => (lagMs === undefined ? undefined : seconds(lagMs)),
    ),
    ofStorages(
      'pgark_wal_storage_failing',
      '1 if the storage refuses WAL, or lacks some that others have; else 0.',
      ({ refuses }) => Number(refuses !== undefined),
    ),
  ];
}

function runFamilies(runs: readonly StorageRuns[]): Family[] {
  const name = 'pgark_run_duration_seconds';
  const total: Sample[] = [];
  const durations: Sample[] = [];
  for (const { storage, counts: group } of runs) {
    const labels = runLabels({ ...group, storage });
    for (const result of runOutcomes) total.push({ value: group.counts[result], labels: { ...labels, result } });
    const { perBound, count, sumMs } = group.durations;
    let upTo = 0;
    for (const [index, bound] of durationBoundsSeconds.entries()) {
      upTo += perBound[index] ?? 0;
      durations.push({ metricName: `${name}_bucket`, value: upTo, labels: { ...labels, le: String(bound) } });
    }
    durations.push({ metricName: `${name}_bucket`, value: count, labels: { ...labels, le: '+Inf' } });
    durations.push({ metricName: `${name}_sum`, value: seconds(sumMs), labels });
    durations.push({ metricName: `${name}_count`, value: count, labels });
  }
  return [
    {
      name: 'pgark_runs_total',
      help: 'Runs that ended, by kind and result, from the records in the storage. Begins anew each month (UTC).',
      type: 'counter',
      aggregator: 'first',
      values: total,
    },
    {
      name,
      help: 'How long runs that succeeded or failed took. Begins anew each month (UTC).',
      type: 'histogram',
      aggregator: 'first',
      values: durations,
    },
  ];
}

/** One series for each kind, database and format, even if several such runs go on: the one that is least far. */
function progressSamples(running: readonly RunningRun[]): Sample[] {
  const least = new Map<string, Sample>();
  for (const run of running) {
    if (run.progressRatio === undefined) continue;
    const labels = { ...runLabels(run), ...(run.format === undefined ? {} : { format: run.format }) };
    const key = JSON.stringify(labels);
    const value = Math.min(run.progressRatio, least.get(key)?.value ?? 1);
    least.set(key, { value, labels });
  }
  return [...least.values()];
}

function seriesLabels({ source, database, format, storage }: BackupProtection): Labels {
  return { source, database, format, storage };
}

/** To Prometheus an absent label is an empty one; what a run does not work on is left out. */
function runLabels(run: Pick<RunningRun, 'kind' | 'source' | 'database' | 'storage'>): Labels {
  const { kind, source, database, storage } = run;
  return {
    kind,
    ...(source === undefined ? {} : { source }),
    ...(database === undefined ? {} : { database }),
    storage,
  };
}

function seconds(ms: number): number {
  return ms / 1_000;
}
