import path from 'node:path';
import { GIB } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import { readParents } from '../formats/physical/backup-chain.ts';
import type { FetchProgram } from '../formats/physical/fetch-script.ts';
import { fetchSpan, refuseTablespacesOf } from '../formats/physical/fetch-wal.ts';
import { findSpan, spanOf, type WalSpan } from '../formats/physical/needed-wal.ts';
import { PhysicalObjects } from '../formats/physical/physical-objects.ts';
import { type BaseTarget, inspectTarget, RestoredBase } from '../formats/physical/restore-base.ts';
import { mayHaveSubscriptions } from '../formats/physical/subscriptions.ts';
import { placeTablespaces, type TablespaceMapping } from '../formats/physical/tablespace-map.ts';
import type { ArchiveAccess } from '../formats/wal/archive-path.ts';
import type { DecryptionKeys } from '../pipeline/encryption/sealer.ts';
import { libcHere, sortsOtherwise } from '../postgres/client/sort-libraries.ts';
import type { FinishedRecovery } from '../postgres/server/recovering-server.ts';
import type { ServerParameters } from '../postgres/wal/record.ts';
import type { Manifest } from '../repository/manifest.ts';
import { sizesOf } from '../repository/manifest.ts';
import { type BackupFilter, Repository } from '../repository/repository.ts';
import { type Run, type RunResult, runEnveloped } from '../runs/run.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { type BackupSelector, findBackup } from './find-backup.ts';
import { describeStop } from './recovery/describe-plan.ts';
import { type AroundRestore, type RestoreFacts, surrounded } from './restore-around.ts';
import { goesBeyondBase, planRecovery, type RecoveryPlan } from './recovery/plan-recovery.ts';
import { checkWal, prepareFetching, type TablespacePaths } from './recovery/recover-directory.ts';
import { findServerToStart, startRecovered, type StartRequest } from './recovery/start-recovered.ts';
import type { RecoveryTarget } from './recovery/recovery-target.ts';
import { whileHeld } from './while-held.ts';

export { parseTablespaceMapping, type TablespaceMapping } from '../formats/physical/tablespace-map.ts';

export interface DirectoryRestoreRequest extends TablespacePaths {
  readonly store: ObjectStore;
  readonly filter: BackupFilter;
  readonly selector: BackupSelector;
  readonly keys: DecryptionKeys;
  /** The data directory to make: empty, or not there yet. */
  readonly directory: string;
  /** Where tablespaces go; those of no mapping go into the data directory. */
  readonly mappings: readonly TablespaceMapping[];
  /** What a restore that was killed has left in the directory, or where a tablespace goes, is removed. Default: it is refused. */
  readonly replacesUnfinished?: boolean | undefined;
  /** Asked before the directory is touched, and told after. Default: nobody. */
  readonly around?: AroundRestore | undefined;
  /** Find, check, say what would be done, and stop. */
  readonly planOnly: boolean;
  /** Up to where the server recovers, by WAL that is archived. Default: to the end of the backup. */
  readonly recovery?: RecoveryRequest | undefined;
  /** Starts a server on the directory, and waits until it has recovered. Default: it is left to whoever asks. */
  readonly start?: StartRequest | undefined;
  /** Of the restored server. Default: as it was. */
  readonly port?: number | undefined;
}

export interface RecoveryRequest {
  readonly target: Exclude<RecoveryTarget, { readonly kind: 'backup-end' }>;
  /** Default: the newest that is archived. */
  readonly timeline?: number | undefined;
  /** By which the server gets WAL. */
  readonly fetch: FetchProgram;
  /** Whether all WAL for it is read and checked before the target is touched. Default: where that is less than 1 GiB. */
  readonly verifyFirst?: boolean | undefined;
}

export interface DirectoryRestoreOutcome {
  readonly manifest: Manifest;
  readonly directory: string;
  readonly plan: readonly string[];
  /** What the restored server may not be that was expected: sentences. */
  readonly warnings: readonly string[];
  /** Undefined: to the end of the backup. */
  readonly recovery?: RecoveryPlan | undefined;
  readonly done: boolean;
  /** Whether all belongs to root, as whom PostgreSQL does not run. */
  readonly isOfRoot: boolean;
  /** The server that was started. */
  readonly started?: FinishedRecovery | undefined;
  readonly durationMs: number;
}

type Done = Pick<DirectoryRestoreOutcome, 'done' | 'isOfRoot' | 'started'>;

interface Restored {
  readonly value: DirectoryRestoreOutcome;
  readonly result: RunResult;
}

const SUBSCRIPTIONS_WAIT =
  'subscriptions of the restored server do not run (max_logical_replication_workers = 0): they would take from their slots at the publisher what the old server still needs; where the old one is gone for good, or they are dropped or have slots of their own, ALTER SYSTEM RESET max_logical_replication_workers and a restart let them run';

const workersRun = (libraries: readonly string[]): string =>
  `the restored server loads ${libraries.join(', ')} (shared_preload_libraries), which may work by themselves as soon as it starts: carry out jobs a second time, or take from a server that they replicate from what the old server still needs; where the old one is not gone for good, start it with pg_ctl -o '-c max_worker_processes=0' until that is turned off`;

/** Below it all WAL of a recovery is read once before the target is touched, unless told otherwise. */
const VERIFY_FIRST_BYTES_MAX = GIB;

/**
 * Restores a physical backup into a directory: found, and where to recover to → whole in the store, its write-ahead log too →
 * target fit → unpacked, each file compared with the server's own list → WAL and settings for the recovery → on the disk. A
 * server that is started on it recovers up to there. A failure leaves the target as it was.
 */
export async function restoreDirectory(
  request: DirectoryRestoreRequest,
  context: OperationContext,
): Promise<DirectoryRestoreOutcome> {
  return runEnveloped({ ...context, store: request.store }, { kind: 'restore' }, (run) =>
    restoreDirectoryWithin(request, run, context),
  );
}

/** The same as a part of a run. */
export async function restoreDirectoryWithin(
  request: DirectoryRestoreRequest,
  run: Run,
  context: OperationContext,
  command: 'restore' | 'drill' = 'restore',
): Promise<Restored> {
  const { store, keys, planOnly } = request;
  const { signal } = context;
  const startedMs = context.clock.monotonicMs();
  const access = { store, keys, signal };
  const checked = await run.span.span('checks', {}, () => check(request, access, context));
  const { manifest, target, recovery } = checked;
  const { directory } = target;
  const warnings = [...(recovery?.warnings ?? [])];
  for (const words of warnings) run.logger.warning('restore.timeline', words);
  const outcome = (done: Done): DirectoryRestoreOutcome => ({
    manifest,
    directory,
    plan: planOf(manifest, target, recovery),
    warnings,
    recovery,
    durationMs: Math.round(context.clock.monotonicMs() - startedMs),
    ...done,
  });
  if (planOnly) return { value: outcome({ done: false, isOfRoot: false }), result: {} };
  const held = { store, manifest, command, logger: run.logger, runId: run.id } as const;
  return whileHeld(held, context, () =>
    restoreChecked(request, { ...checked, access, warnings, outcome }, run, context),
  );
}

/** All that follows the checks. */
async function restoreChecked(
  request: DirectoryRestoreRequest,
  checked: Awaited<ReturnType<typeof check>> & {
    readonly access: ArchiveAccess;
    readonly warnings: string[];
    readonly outcome: (done: Done) => DirectoryRestoreOutcome;
  },
  run: Run,
  context: OperationContext,
): Promise<Restored> {
  const { manifest, target, access, warnings, outcome } = checked;
  const { directory } = target;
  const { signal } = context;
  await run.open();
  const changes = await run.span.span('check WAL', {}, () => checkWalFirst(request, checked, access));
  const facts: RestoreFacts = {
    runId: run.id,
    source: manifest.source,
    backupId: manifest.id,
    database: undefined,
    target: { kind: 'directory', directory },
  };
  const { isOfRoot, started, libraries } = await surrounded(request.around, facts, signal, async (begin) => {
    await begin();
    return makeDirectory(request, { ...checked, changes }, run, context);
  });
  if (libraries.length > 0) warnings.push(workersRun(libraries));
  // One that nobody else reaches is gone before anybody could turn them on.
  if (request.start?.privateIn === undefined && (await mayHaveSubscriptions(directory))) {
    warnings.push(SUBSCRIPTIONS_WAIT);
    run.logger.warning('restore.subscriptions_wait', SUBSCRIPTIONS_WAIT);
  }
  const done = outcome({ done: true, isOfRoot: isOfRoot && started === undefined, started });
  run.logger.success('restore.done', `restored ${manifest.id} into ${directory}`, {
    backup: manifest.id,
    directory,
    durationMs: done.durationMs,
  });
  return { value: done, result: { backup: manifest.id, durationMs: done.durationMs } };
}

/** Unpacks what was checked, makes it ready to recover, and starts a server on it where one is wanted. */
async function makeDirectory(
  request: DirectoryRestoreRequest,
  checked: Awaited<ReturnType<typeof check>> & { readonly changes: readonly ServerParameters[] },
  run: Run,
  context: OperationContext,
): Promise<Pick<DirectoryRestoreOutcome, 'isOfRoot' | 'started'> & { readonly libraries: readonly string[] }> {
  const { store, keys, allowsTablespacePaths = false } = request;
  const { signal, onProgress } = context;
  const access = { store, keys, signal };
  const { manifest, objects, parents, target, span, recovery, binDir, changes } = checked;
  const { directory } = target;
  const chain = [objects, ...parents];
  // One that nobody else reaches, which does no work but ours, and is gone before anybody could turn that on.
  const isPrivate = request.start?.privateIn !== undefined;
  const bytesTotal = chain.reduce((sum, each) => sum + sizesOf(each.manifest).storedBytes, 0);
  const onStoredBytes = (bytes: number): void =>
    onProgress({ phase: 'unpacking', subject: directory, bytes, bytesTotal });
  const base = await run.span.span('unpack', {}, () =>
    RestoredBase.unpack(objects, target, { signal, onStoredBytes }, parents),
  );
  let libraries: readonly string[];
  try {
    run.logger.info('restore.verified', `${manifest.id} is unpacked, and every file is what the server had listed`, {
      backup: manifest.id,
      directory,
    });
    await run.span.span('prepare recovery', {}, async () => {
      await fetchSpan(span, access, base.data, { refusesTablespaces: !allowsTablespacePaths });
      const note = `Written by pgark, which restored backup ${manifest.id}`;
      const settings =
        recovery === undefined || request.recovery === undefined
          ? { timeline: span.timeline, port: request.port }
          : await prepareFetching(base.data, recovery, {
              ...request.recovery,
              changes,
              port: request.port,
              allowsTablespacePaths,
            });
      await base.prepareRecovery(settings, note);
    });
    warnOfOtherOrder(manifest, run);
    for (const words of await base.configurationElsewhere()) run.logger.warning('restore.configuration', words);
    libraries = isPrivate ? [] : await base.workingLibraries();
    if (libraries.length > 0) {
      run.logger.warning('restore.workers_run', workersRun(libraries), { libraries: libraries.join(',') });
    }
    await run.span.span('sync', {}, () => base.finish(signal));
  } catch (error) {
    await base.discard();
    throw error;
  }
  const started =
    binDir === undefined
      ? undefined
      : await run.span.span('recover', {}, () =>
          startRecovered(
            target,
            {
              binDir,
              plan: recovery,
              port: request.port,
              privateIn: request.start?.privateIn,
              settings: request.start?.settings,
            },
            context,
          ),
        );
  return { isOfRoot: base.isOfRoot, started, libraries };
}

/** Indexes on text are in the order of the library that the server was linked to: with another one they find too little. */
function warnOfOtherOrder({ id, server: { libc } }: Manifest, run: Run): void {
  const here = libcHere();
  if (!sortsOtherwise(libc, here)) return;
  run.logger.warning(
    'restore.sorts_otherwise',
    `the server of ${id} sorted text by ${libc}, and this machine does by ${here}: a server of this machine may miss rows by indexes on text, and let duplicates in; check them first (CREATE EXTENSION amcheck; pg_amcheck --all --heapallindexed), then REINDEX DATABASE and ALTER DATABASE … REFRESH COLLATION VERSION in each, or start a server that is linked to ${libc}`,
    { libc, here },
  );
}

/** Everything that can be found out before the first byte is written. */
async function check(
  {
    store,
    selector,
    filter,
    mappings,
    directory,
    replacesUnfinished,
    recovery: wanted,
    start,
  }: DirectoryRestoreRequest,
  access: ArchiveAccess,
  context: OperationContext,
) {
  const { signal } = context;
  const repository = new Repository(store, context);
  // One that is named is found whatever it is, so that the name can be told from what it stands for.
  const of = selector.kind === 'name' ? filter : { ...filter, kind: 'physical' as const };
  const found = await findBackup(repository, selector, of, context);
  if (found.kind === 'foreign' || found.manifest.format !== 'physical') {
    const name = found.kind === 'foreign' ? found.key : found.manifest.id;
    throw new PgarkError('usage', `${name} is no physical backup, and only those are restored into a directory`, {
      hint: 'restore it into a database with --to-db NAME; pgark list shows the format of each backup',
    });
  }
  context.onProgress({ phase: 'checking', subject: found.manifest.id, bytes: 0 });
  const reference = found.manifest;
  const planned =
    wanted && (await planRecovery({ ...wanted, reference, isNamed: selector.kind === 'name' }, access, context));
  const manifest = planned?.base.manifest ?? reference;
  const recovery = planned && goesBeyondBase(planned) ? planned : undefined;
  const objects = new PhysicalObjects(manifest, access);
  const span = spanOf(manifest);
  const parents = await readParents(manifest, access);
  for (const each of [objects, ...parents]) await each.checkPresence();
  const segments = await findSpan(store, span, { signal });
  const absolute = path.resolve(directory);
  const tablespaces = placeTablespaces(manifest.tablespaces ?? [], mappings, absolute);
  const target: BaseTarget = { directory: absolute, tablespaces, replacesUnfinished };
  await inspectTarget(objects, target, segments.length * span.segmentBytes);
  const binDir = start && (await findServerToStart(start, manifest.server.versionNum));
  return { manifest, objects, parents, span, target, recovery, binDir };
}

/** Resolves with the settings that the server changed to on the way, as far as that was read. */
async function checkWalFirst(
  { recovery: wanted, allowsTablespacePaths = false }: DirectoryRestoreRequest,
  { recovery, span }: { readonly recovery: RecoveryPlan | undefined; readonly span: WalSpan },
  access: ArchiveAccess,
): Promise<readonly ServerParameters[]> {
  const isShort = (recovery?.stop.lsn ?? span.to) - span.from < VERIFY_FIRST_BYTES_MAX;
  if (!(wanted?.verifyFirst ?? isShort)) return [];
  if (recovery !== undefined) return checkWal(recovery, { allowsTablespacePaths });
  // All of it is read once more when it is put beside the backup; this is for a refusal before that.
  if (!allowsTablespacePaths) await refuseTablespacesOf(span, access);
  return [];
}

function planOf(
  manifest: Manifest,
  { directory, tablespaces, replacesUnfinished = false }: BaseTarget,
  recovery: RecoveryPlan | undefined,
): readonly string[] {
  const locations = new Map(manifest.tablespaces?.map(({ oid, location }) => [oid, location]));
  const { parents } = manifest;
  const merging = parents.length === 0 ? '' : `, merged with ${parents.join(', ')},`;
  return [
    ...(replacesUnfinished ? ['remove what an unfinished restore has left there, if it has'] : []),
    `unpack ${manifest.id}${merging} into ${directory}, and compare every file with the server's own list`,
    ...tablespaces.map(({ oid, path: place }) => `put the tablespace of ${locations.get(oid) ?? oid} into ${place}`),
    `put the write-ahead log up to ${manifest.stopLsn ?? 'the end of the backup'} beside it, so that a server that is started there recovers up to that point`,
    ...(recovery === undefined
      ? []
      : [`let it fetch archived write-ahead log and recover up to ${describeStop(recovery)}`]),
  ];
}
