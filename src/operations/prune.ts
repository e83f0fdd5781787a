import { messageOf } from '../common/errors.ts';
import { allOf } from '../common/in-parallel.ts';
import { suspiciousAmong } from '../repository/accepted-sizes.ts';
import { type GlobalsRecord, removeGlobals } from '../repository/globals.ts';
import { type BackupKind, kindOfId } from '../repository/ids.ts';
import { Leases } from '../repository/leases.ts';
import { type Manifest, seriesOf, sizesOf } from '../repository/manifest.ts';
import { OwnedObjects } from '../repository/owned-objects.ts';
import { findReaders, type Readers } from '../repository/readers.ts';
import { type Kept, PRUNE_LEASE, removeUnneeded } from '../repository/remove-backup.ts';
import { type BackupFilter, Repository } from '../repository/repository.ts';
import { mayHaveChanged, sweep, type SweepReport } from '../repository/sweep.ts';
import {
  databasesOverHalf,
  type OverHalf,
  planRetention,
  type RetainableBackup,
  type RetentionPlan,
} from '../retention/plan.ts';
import type { RetentionPolicy } from '../retention/policy.ts';
import { compactRuns } from '../runs/compact-runs.ts';
import { type Run, runEnveloped } from '../runs/run.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { drilledAt, isUnread, newestProofs, provenAt, type Proofs } from './proofs.ts';
import { pruneArchives, walCounts, type WalPolicy } from './prune-archives.ts';
import { planGlobals } from './prune-globals.ts';
import { explainFullStore } from './prune-full.ts';
import { type BackupInUse, InUse, inUseOf } from './prune-in-use.ts';
import { ParentGuard } from './prune-parents.ts';
import { describeRefused, PruneRefused, withoutRefused } from './prune-refusal.ts';
import type { WalPruneOutcome } from './wal/prune-wal.ts';

export interface PruneRequest {
  readonly store: ObjectStore;
  /** What to plan over: everything, or one source or database. */
  readonly filter: BackupFilter;
  /** Which policy holds for which backup: by source, database and kind, exactly. Undefined: nothing of it is ever pruned. */
  readonly policyOf: (source: string, database: string, kind: BackupKind) => RetentionPolicy | undefined;
  /** What of a source's WAL is kept. Undefined: none of it is ever pruned. Default: of no source. */
  readonly walPolicyOf?: ((source: string) => WalPolicy | undefined) | undefined;
  readonly timezone: string;
  readonly leaseTermMs: number;
  readonly dryRun: boolean;
  /** This process has written a backup there a moment ago: lease and record may be written before the layout is looked at again. */
  readonly isWritten?: boolean;
  /** Carry out a plan that removes more than half of a database's backups, or of the WAL that goes on behind them. */
  readonly force: boolean;
}

export interface PruneOutcome {
  readonly plan: RetentionPlan;
  /** Empty in a dry run. */
  readonly removed: readonly Manifest[];
  /** Of the data objects that were deleted: what somebody put in the place of one is kept and does not count. */
  readonly removedBytes: number;
  /** What the plan removes, also of databases in `refused`. */
  readonly planned: readonly Manifest[];
  /** What of `planned` stays until the next prune, since somebody reads it: now in a dry run, when its turn came otherwise. */
  readonly inUse: readonly BackupInUse[];
  /** Databases of which more than half would go, which only force does; empty with force. */
  readonly refused: readonly OverHalf[];
  /** Globals that no backup needs when these are gone: removed with them, or to be removed in a dry run. */
  readonly globals: readonly GlobalsRecord[];
  /** Kept as the last ones of a server that is not the one backed up last: plan reason `other-server`. */
  readonly ofOtherServers: readonly Manifest[];
  /** What went of the servers' WAL, or would in a dry run. */
  readonly wal: readonly WalPruneOutcome[];
}

const nothingPruned: PruneOutcome = {
  plan: { keep: [], remove: [] },
  planned: [],
  inUse: [],
  refused: [],
  globals: [],
  ofOtherServers: [],
  removed: [],
  removedBytes: 0,
  wal: [],
};

/**
 * Removes what retention lets go: plan → for each lease looked at again, and for incremental backups that need it, for a pin and for readers → manifest first, then data. Only committed backups are
 * planned over; what is not pgark's is never looked at. Globals go with the last backup that needs them, and WAL with the
 * last base backup. What dead runs left is swept on the way. Errors: `prune-refused` (`PruneRefused`, with what was done) where more than half of a
 * database's would go, of which then none goes, while the other databases are pruned; `locked`, `repository-damaged` where a
 * manifest cannot be read, since a plan over a part of the truth is no plan.
 */
export async function prune(request: PruneRequest, context: OperationContext): Promise<PruneOutcome> {
  const { store } = request;
  let releasing: Promise<void> | undefined;
  const pruning = runEnveloped<PruneOutcome>({ ...context, store }, { kind: 'prune' }, async (run) => {
    const repository = new Repository(store, context);
    if (request.dryRun) {
      const { signal } = context;
      const planned = await planFor(repository, request, context);
      const goes = withoutRefused(planned.planned, planned.refused);
      const inUse = inUseOf(goes, goes.length === 0 ? new Map() : (await findReaders(store, { signal })).reading);
      const stays = new Set(inUse.map(({ manifest }) => manifest.id));
      const removing = goes.filter(({ id }) => !stays.has(id));
      const wal = await pruneArchives(repository, request, { removing, run, signal });
      const globals = globalsGoing(planned.globals, removing.length < goes.length);
      const outcome = { ...planned, inUse, globals, wal, removed: [], removedBytes: 0 };
      if (isRefused(outcome)) {
        const what = `the retention policy would delete ${describeRefused(outcome)}, more than half`;
        run.logger.warning('prune.would_refuse', `${what}: pgark prune refuses that without --force`);
      }
      return { value: outcome, result: {} };
    }
    // Where nobody has ever written there is nothing to delete, and nothing to write a lease into.
    const looking = repository.checkLayout({ signal: context.signal });
    if (request.isWritten !== true && !(await looking)) return { value: nothingPruned, result: {} };
    const leases = new Leases(store, {
      clock: context.clock,
      random: context.random,
      logger: run.logger,
      termMs: request.leaseTermMs,
      holder: { host: context.host, pid: context.pid, runId: run.id, command: 'pgark prune' },
    });
    const explained = async (error: unknown): Promise<never> => {
      throw await explainFullStore(error, () => planFor(repository, request, context));
    };
    const taking = leases.acquire(PRUNE_LEASE, { signal: context.signal }).catch(explained);
    const [lease, , isRepository] = await allOf([taking, run.open(), looking]).catch(async (error: unknown) => {
      await taking.then(
        (taken) => taken.release(),
        () => {},
      );
      throw error;
    });
    if (!isRepository) {
      await lease.release();
      return { value: nothingPruned, result: {} };
    }
    const signal = AbortSignal.any([context.signal, lease.lost]);
    const compacting = run.span.span('compact', {}, () => compactHistory(store, context, run, signal));
    try {
      const planning = planSwept(
        () =>
          run.span.span('sweep', {}, () => sweep({ repository, leases, logger: run.logger, held: [lease], signal })),
        () => run.span.span('plan', {}, () => planFor(repository, request, context)),
      );
      // Who begins to read from now on is seen by the removal itself.
      const [planned, reading] = await allOf([planning, readersOf({ store, signal }, run)]);
      const { plan, refused } = planned;
      const goes = withoutRefused(planned.planned, refused);
      const owned = new OwnedObjects(repository);
      const guard = new ParentGuard(repository, plan, run.logger);
      const inUse = new InUse();
      const removed: Manifest[] = [];
      const globals: GlobalsRecord[] = [];
      let removedBytes = 0;
      await run.span.span('remove', {}, async () => {
        for (const manifest of goes) {
          await lease.confirm();
          if (!(await guard.mayGo(manifest, { signal }))) {
            inUse.follows(manifest);
            continue;
          }
          const kept = reading.get(manifest.id);
          const removal =
            kept === undefined
              ? await removeUnneeded(repository, manifest, { owned, signal }).catch(explained)
              : { kept };
          if ('kept' in removal) {
            guard.stays(manifest);
            if (removal.kept !== 'pinned') inUse.isRead(manifest, removal.kept);
            logKept(run, manifest, removal);
            continue;
          }
          const { foreign, bytesDeleted } = removal;
          removed.push(manifest);
          removedBytes += bytesDeleted;
          logRemoval(run, manifest, plan, bytesDeleted);
          for (const key of foreign) logForeign(run, manifest, key);
        }
        for (const record of globalsGoing(planned.globals, removed.length < goes.length)) {
          await lease.confirm();
          await removeGlobals(store, record, { signal });
          globals.push(record);
          logGlobalsRemoval(run, record);
        }
      });
      const confirm = (): Promise<void> => lease.confirm();
      const wal = await run.span.span('wal', {}, () =>
        pruneArchives(repository, request, { removing: removed, run, signal, confirm }),
      );
      const outcome = { ...planned, inUse: inUse.backups, globals, removed, removedBytes, wal };
      if (isRefused(outcome)) throw new PruneRefused(outcome);
      return {
        value: outcome,
        result: { removed: removed.length, removedBytes, kept: plan.keep.length, ...walCounts(wal) },
      };
    } finally {
      await compacting;
      // The run's record does not wait for it.
      releasing = lease.release();
    }
  });
  try {
    return await pruning;
  } finally {
    await releasing;
  }
}

/** What was planned to go with backups that stay after all may go with them the next time. */
function globalsGoing(planned: readonly GlobalsRecord[], someStay: boolean): readonly GlobalsRecord[] {
  return someStay ? [] : planned;
}

/**
 * A plan over what is there when dead runs have been swept up after. Mostly there is nothing to sweep, and a plan that was made
 * meanwhile holds; what it came to is of no matter otherwise.
 */
async function planSwept<Plan>(sweepUp: () => Promise<SweepReport>, makePlan: () => Promise<Plan>): Promise<Plan> {
  const planning = makePlan();
  const [report] = await allOf([sweepUp(), planning.catch(() => undefined)]);
  return mayHaveChanged(report) ? makePlan() : planning;
}

function isRefused({ refused, wal }: Pick<PruneOutcome, 'refused' | 'wal'>): boolean {
  return refused.length > 0 || wal.some((each) => each.refused !== undefined);
}

/** The history of runs is kept small on the way. Its failure is none of the prune's: never rejects. */
async function compactHistory(
  store: ObjectStore,
  context: OperationContext,
  run: Run,
  signal: AbortSignal,
): Promise<void> {
  try {
    const now = await store.now({ signal });
    const { compacted, dropped, logsDeleted } = await compactRuns(store, {
      now,
      random: context.random,
      logger: run.logger,
      signal,
    });
    if (compacted + dropped + logsDeleted === 0) return;
    run.logger.info(
      'runs.compacted',
      `compacted the records of ${compacted} runs, let go of ${dropped}, deleted ${logsDeleted} old logs`,
      { compacted, dropped, logsDeleted },
    );
  } catch (error) {
    if (signal.aborted) return;
    run.logger.warning('runs.compaction_failed', `the history of runs could not be compacted: ${messageOf(error)}`);
  }
}

async function planFor(
  repository: Repository,
  request: PruneRequest,
  context: OperationContext,
): Promise<Omit<PruneOutcome, 'removed' | 'removedBytes' | 'inUse' | 'wal'>> {
  const { signal } = context;
  const [{ manifests, damaged }, pins, now] = await allOf([
    repository.backups(request.filter, { signal }),
    repository.pins({ signal }),
    repository.store.now({ signal }),
  ]);
  const [unreadable] = damaged;
  if (unreadable) throw unreadable.error;
  const keep: RetentionPlan['keep'][number][] = [];
  const remove: RetentionPlan['remove'][number][] = [];
  const groups = Map.groupBy(manifests, seriesOf);
  for (const group of groups.values()) {
    const [first] = group;
    if (first === undefined) continue;
    const policy = request.policyOf(first.source, first.database.name, kindOfId(first.id));
    if (policy === undefined) continue;
    const [proofs, suspicious] = await allOf([
      newestProofs(repository.store, group, context),
      suspiciousAmong(repository.store, group, { signal }),
    ]);
    const plan = planRetention(
      group.map((manifest) => ({
        ...retainable(manifest, pins, proofs.get(manifest.id) ?? {}),
        isSuspicious: suspicious.has(manifest.id),
      })),
      policy,
      now,
      { timezone: request.timezone },
    );
    keep.push(...plan.keep);
    remove.push(...plan.remove);
  }
  const byId = new Map(manifests.map((manifest) => [manifest.id as string, manifest]));
  const planned = remove.flatMap((row) => byId.get(row.id) ?? []);
  const { filter } = request;
  const isPruned = (source: string, database: string): boolean =>
    request.policyOf(source, database, 'logical') !== undefined;
  const refused = request.force ? [] : databasesOverHalf({ keep, remove });
  const removing = new Set<string>(withoutRefused(planned, refused).map(({ id }) => id));
  // They go with all databases of their source: whoever prunes one of many leaves them to the next globals stored.
  const globals =
    filter.database === undefined
      ? await planGlobals(repository, { source: filter.source, isPruned, removing }, { signal })
      : [];
  const ofOtherServers = keep.flatMap(({ id, reasons }) =>
    reasons.includes('other-server') ? (byId.get(id) ?? []) : [],
  );
  return { plan: { keep, remove }, planned, refused, ofOtherServers, globals };
}

function retainable(manifest: Manifest, pins: ReadonlySet<string>, proofs: Proofs): RetainableBackup {
  const proven = provenAt(proofs);
  const drilled = drilledAt(proofs);
  return {
    id: manifest.id,
    source: manifest.source,
    database: manifest.database.name,
    kind: kindOfId(manifest.id),
    ...(manifest.server.systemIdentifier === undefined ? {} : { systemIdentifier: manifest.server.systemIdentifier }),
    takenAt: new Date(manifest.storeTime),
    bytes: sizesOf(manifest).storedBytes,
    pinned: pins.has(manifest.id),
    parents: manifest.parents,
    ...(manifest.lockedUntil === undefined ? {} : { lockedUntil: new Date(manifest.lockedUntil) }),
    ...(proven === undefined ? {} : { provenAt: proven }),
    ...(drilled === undefined ? {} : { drilledAt: drilled }),
    isProofUnread: isUnread(proofs),
  };
}

function logRemoval(run: Run, manifest: Manifest, plan: RetentionPlan, storedBytes: number): void {
  const row = plan.remove.find((each) => each.id === manifest.id);
  run.logger.info('prune.removed', `removed backup ${manifest.id} of ${manifest.database.name}`, {
    backupId: manifest.id,
    reason: row?.reason,
    storedBytes,
  });
}

function logKept(run: Run, { id, database }: Manifest, { kept }: Kept): void {
  const backup = `backup ${id} of ${database.name}`;
  if (kept === 'pinned') {
    const what = `${backup} was pinned while this prune went on, and stays`;
    run.logger.info('prune.pinned', what, { backupId: id });
    return;
  }
  const { reader } = kept;
  const what = `${backup} stays until the next prune: it is read by ${reader}`;
  run.logger.warning('prune.in_use', what, { backupId: id, reader });
}

/** Who reads backups now. Holds that nobody needs any more are removed on the way. */
async function readersOf(
  place: Required<CallOptions> & { readonly store: ObjectStore },
  run: Run,
): Promise<Readers['reading']> {
  const { reading, ended } = await findReaders(place.store, { signal: place.signal });
  await forget(place, ended, run);
  return reading;
}

/** Removes holds that nobody needs any more; what cannot be removed is for the next prune. */
async function forget(
  { store, signal }: CallOptions & { readonly store: ObjectStore },
  holds: readonly ObjectKey[],
  { logger }: Run,
): Promise<void> {
  for (const key of holds) {
    try {
      await store.delete(key, signal && { signal });
    } catch (error) {
      signal?.throwIfAborted();
      logger.debug('prune.hold_left', `${key} was not removed: ${messageOf(error)}`);
    }
  }
}

function logForeign(run: Run, { id }: Manifest, key: ObjectKey): void {
  run.logger.warning(
    'prune.foreign_kept',
    `${key} is not what backup ${id} stored there: it was replaced by somebody, and stays`,
    { key, backupId: id },
  );
}

function logGlobalsRemoval(run: Run, { id, source, object }: GlobalsRecord): void {
  run.logger.info('prune.globals_removed', `removed globals ${id} of ${source}, which no backup needs`, {
    globalsId: id,
    storedBytes: object.storedBytes,
  });
}
