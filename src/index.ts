/**
 * pgark as a library: the same operations that the command line runs. Each takes a request and a context, and rejects
 * with a `PgarkError` whose code is a row of `errorTable`.
 *
 * ```ts
 * import { backup, loadConfig, openStore, operationContext, PLAIN_NAME_TEMPLATE, sealerOf } from 'pgark';
 *
 * const config = await loadConfig({ env: process.env, cwd: process.cwd() });
 * const [source] = config.databases.values();
 * const [storage] = config.storages.values();
 * const [job] = source.jobs.values();
 * const store = await openStore(storage);
 * const outcome = await backup(
 *   {
 *     source: source.name,
 *     connection: source.connection,
 *     destinations: [{ name: storage.name, store, needsDelete: false }],
 *     seal: { compression: job.compression, sealer: await sealerOf(job.encryption) },
 *     nameTemplate: job.filename ?? PLAIN_NAME_TEMPLATE,
 *     excludeTableData: job.excludeTableData,
 *     leaseTermMs: config.leaseTermMs,
 *     readBack: false,
 *     dryRun: false,
 *   },
 *   operationContext(),
 * );
 * await store.close();
 * ```
 */

export { openStore, openTracing, sealerOf } from './app.ts';
export { type Clock, systemClock } from './common/clock.ts';
export { type ErrorCode, errorTable, exitCodes } from './common/error-table.ts';
export { isPgarkError, PgarkError, type PgarkErrorOptions } from './common/errors.ts';
export { type LogFields, type Logger, silentLogger } from './common/log.ts';
export { createLogger, type LogFormat, type LogLevel, type LogWriterOptions } from './common/log-writer.ts';
export type { Random } from './common/random.ts';
export { Secret } from './common/secret.ts';
export { silentTracer, type Span, type SpanFacts, type Tracer, type Tracing } from './common/tracer.ts';
export { type ConfigFlags, type LoadOptions, loadConfig } from './config/load.ts';
export type {
  Config,
  EncryptionConfig,
  JobConfig,
  RetentionConfig,
  SourceConfig,
  StorageConfig,
  TracesConfig,
} from './config/model.ts';
export type { Exclusion, NewName, SectionName, Selection } from './formats/load-source.ts';
export type { Seal } from './formats/sealed-object.ts';
export {
  backup,
  type BackupDestination,
  type BackupOutcome,
  type BackupRequest,
  type CheckedDestination,
  type DestinationOutcome,
} from './operations/backup.ts';
export { backupGlobals, type GlobalsOutcome, type GlobalsRequest } from './operations/backup-globals.ts';
export { type ContextOptions, type OperationContext, operationContext, type Progress } from './operations/context.ts';
export { copyBackup } from './operations/copy/copy.ts';
export type {
  CopiedBackup,
  CopyOutcome,
  CopyPlace,
  CopyRequest,
  CopyState,
} from './operations/copy/copy-request.ts';
export { diff, type DiffOutcome, type DiffRequest, type StoredBackup } from './operations/diff/diff.ts';
export { download, type DownloadOutcome, type DownloadRequest } from './operations/download.ts';
export { drill } from './operations/drill/drill.ts';
export type {
  Compared,
  DrillOutcome,
  DrillRequest,
  DrillSelector,
  RecoveredTo,
  Scratch,
} from './operations/drill/drill-request.ts';
export type { Assertion } from './operations/drill/assertions.ts';
export { examineSource, examineStore, type Finding, type SourceNeeds } from './operations/doctor.ts';
export type { BackupSelector, FoundBackup } from './operations/find-backup.ts';
export { type ForeignDump, type ForeignObject, list, type Listing } from './operations/list.ts';
export {
  listRuns,
  type ListRunsRequest,
  type NamedStore,
  type RunListing,
  type RunOutcomeIn,
  type RunState,
  type RunSummary,
} from './operations/list-runs.ts';
export { probeStorage, type ProbedStorage, type ProbedTrait } from './operations/probe-storage.ts';
export { type StorageUsage, storageUsage, type UsageRow } from './operations/storage-usage.ts';
export { acceptBackup } from './operations/accept-size.ts';
export { pinBackup, type PinOutcome, type PinRequest, unpinBackup, type UnpinRequest } from './operations/pin.ts';
export { prune, type PruneOutcome, type PruneRequest } from './operations/prune.ts';
export { PruneRefused } from './operations/prune-refusal.ts';
export { restore, type RestoreOutcome, type RestoreRequest } from './operations/restore.ts';
export type { AroundRestore, RestoreFacts } from './operations/restore-around.ts';
export type { RestoreTarget } from './operations/restore-into.ts';
export {
  type DirectoryRestoreOutcome,
  type DirectoryRestoreRequest,
  type RecoveryRequest,
  restoreDirectory,
} from './operations/restore-directory.ts';
export { type RecoveryTarget, targetAt, targetAtLsn } from './operations/recovery/recovery-target.ts';
export type { GlobalsSelector } from './operations/whole-server/find-globals.ts';
export type { GlobalsChoice, PlannedObject } from './operations/whole-server/planned-object.ts';
export {
  restoreAll,
  type RestoreAllOutcome,
  type RestoreAllRequest,
  type RestoredDatabase,
} from './operations/whole-server/restore-all.ts';
export {
  GlobalsPartlyRestored,
  restoreGlobals,
  type RestoreGlobalsOutcome,
  type RestoreGlobalsRequest,
} from './operations/whole-server/restore-globals.ts';
export type { SizeExpectation } from './operations/size-judge.ts';
export { followRunLog, type RunLogPart, type RunLogRequest, showRunLog } from './operations/run-logs.ts';
export { globalsOf, showBackup } from './operations/show.ts';
export type { LeftOut } from './formats/plain/left-out.ts';
export {
  type Verification,
  verify,
  type VerifiedBackup,
  type VerifyDepth,
  type VerifyRequest,
} from './operations/verify.ts';
export type { Compression } from './pipeline/compression.ts';
export { Throttle } from './pipeline/throttle.ts';
export type { DecryptionKeys, EncryptionRecord, Sealer } from './pipeline/encryption/sealer.ts';
export type { ConnectionParameters, SslMode } from './postgres/client/connection-parameters.ts';
export type { GlobalsRecord } from './repository/globals.ts';
export type { BackupId } from './repository/ids.ts';
export type { Manifest, ManifestObject } from './repository/manifest.ts';
export type { Pin } from './repository/pins.ts';
export { PLAIN_NAME_TEMPLATE } from './repository/plain-name.ts';
export type { BackupFilter, DamagedManifest } from './repository/repository.ts';
export type { KeepRules, RetentionPolicy } from './retention/policy.ts';
export type { RemoveReason, RetentionPlan } from './retention/plan.ts';
export type { ObjectStore, ProviderProfile } from './storage/object-store.ts';
export { pgarkVersion } from './version.ts';
