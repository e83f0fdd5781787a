import { formatBytes } from '../common/bytes.ts';
import { asPgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { BackupOutcome } from '../operations/backup.ts';
import { prune } from '../operations/prune.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { JobResult } from './job-report.ts';
import type { DatabaseRequest, JobWorld } from './run-job.ts';
import { walPolicyIn } from './wal.ts';

/**
 * Whether backups may be deleted now that there is this new one. If it is suspicious in any of its storages, none are in any of
 * them: all of them hold the same, and the one may know better than another.
 */
export function mayPruneAfter(outcome: BackupOutcome, { job, retention }: DatabaseRequest, logger: Logger): boolean {
  if (outcome.kind !== 'committed') return false;
  const suspicious = outcome.destinations.find(({ manifest }) => manifest?.suspicions !== undefined)?.manifest;
  if (suspicious === undefined) return true;
  const { id, database } = suspicious;
  if (retention !== undefined) {
    const filter = { source: job.source.name, database: database.name };
    logger.info('prune.skipped', `old backups are left as they are: the new one, ${id}, is suspicious`, filter);
  }
  return false;
}

/** Retention never makes a good backup a failed one: what goes wrong here is a warning. */
export async function pruneAfter(
  { name, store }: { readonly name: string; readonly store: ObjectStore },
  request: DatabaseRequest,
  world: JobWorld,
): Promise<JobResult['pruned']> {
  const { source: configured, settings } = request.job;
  const { retention } = request;
  const { config, context } = world;
  if (retention === undefined) return undefined;
  const kind = settings.format === 'physical' ? 'physical' : 'logical';
  const filter = { source: configured.name, database: request.database.name };
  try {
    const { plan, removed, removedBytes } = await world.stores.whilePruning(store, context.signal, () =>
      prune(
        {
          store,
          filter: { ...filter, kind },
          policyOf: (source, database) =>
            source === filter.source && database === filter.database ? retention : undefined,
          walPolicyOf: () => walPolicyIn(config.storages.get(name), configured.wal?.keepMs),
          timezone: config.timezone,
          leaseTermMs: config.leaseTermMs,
          dryRun: false,
          isWritten: true,
          force: false,
        },
        context,
      ),
    );
    if (removed.length > 0) {
      context.logger.info(
        'prune.done',
        `pruned ${removed.length} old ${removed.length === 1 ? 'backup' : 'backups'}, ${formatBytes(removedBytes)}; kept ${plan.keep.length}`,
        { ...filter, removed: removed.length, removedBytes, kept: plan.keep.length },
      );
    }
    return { error: undefined };
  } catch (error) {
    const failure = asPgarkError(error);
    if (failure.code === 'locked') {
      context.logger.info('prune.skipped', `old backups are left to the next run: ${failure.message}`, filter);
      return undefined;
    }
    context.logger.warning(
      'prune.failed',
      `the backup is safe, but old ones were not pruned: ${failure.message}; ${failure.hint}`,
      { ...filter, code: failure.code },
    );
    return { error: failure };
  }
}
