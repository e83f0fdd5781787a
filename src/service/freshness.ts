import type { Config } from '../config/model.ts';
import type { NotificationEvent, Problem, Resolved } from '../notify/message.ts';
import { isEndedBy } from '../notify/state.ts';
import { ANY_DATABASE } from '../observability/expectations.ts';
import { type BackupProtection, isOverdue, type ProtectionState } from '../observability/protection-state.ts';

/**
 * What is overdue, as something to tell; and what is there and fresh, so that what was told of it before is over. Nothing is
 * sent, nor kept, of what was never overdue. `backups` are those to tell of. Default: all of the state's.
 */
export function freshnessEvents(
  config: Config,
  state: ProtectionState,
  backups: readonly BackupProtection[] = state.backups,
): readonly NotificationEvent[] {
  const overdue = new Map(
    state.backups
      .filter((backup) => isOverdue(backup, state.at))
      .map((backup) => [backup, overdueEvent(config, state, backup)]),
  );
  // Backups of two formats may be told of as one problem, which is over when neither is overdue.
  const fresh = backups
    .filter((backup) => isFresh(backup, state.at))
    .map((backup) => freshEvent(config, state, backup))
    .filter((event) => ![...overdue.values()].some((problem) => isEndedBy(problem, event)));
  return [...backups.flatMap((backup) => overdue.get(backup) ?? []), ...fresh];
}

/** A database that has no backup yet has time for one, for now: that is not what anybody waits to hear of. */
function isFresh(backup: BackupProtection, now: Date): boolean {
  const { expectation, lastSuccess } = backup;
  return expectation.kind === 'expected' && lastSuccess !== undefined && !isOverdue(backup, now);
}

function freshEvent(config: Config, state: ProtectionState, backup: BackupProtection): Resolved {
  return { event: 'resolved', of: 'overdue', at: state.at, ...aboutOf(config, backup) };
}

function overdueEvent(config: Config, state: ProtectionState, backup: BackupProtection): Problem {
  const { storage, lastSuccess, expectation, nextRunAt } = backup;
  const wasRead = state.storages.some((known) => known.storage === storage && known.readAt !== undefined);
  const maxAgeMs = expectation.kind === 'expected' ? expectation.maxAgeMs : undefined;
  return {
    event: 'overdue',
    at: state.at,
    ...aboutOf(config, backup),
    ...(lastSuccess === undefined
      ? wasRead
        ? { lastGoodAt: 'never' as const }
        : {}
      : { lastGoodAt: lastSuccess.startedAt }),
    ...(maxAgeMs === undefined ? {} : { maxAgeMs }),
    ...(nextRunAt === undefined ? {} : { nextTryAt: nextRunAt }),
  };
}

/** The same for what is overdue and what is fresh, or the one would not end the other. */
function aboutOf(
  config: Config,
  { source, database, format, storage }: BackupProtection,
): Pick<Resolved, 'source' | 'database' | 'storage' | 'job'> {
  const jobs = [...(config.databases.get(source)?.jobs.values() ?? [])].filter(
    (job) => job.format === format && job.to.includes(storage),
  );
  const [job, another] = jobs;
  return {
    source,
    ...(database === ANY_DATABASE ? {} : { database }),
    storage,
    // Where several jobs make the same backups, any of them ends it.
    ...(job === undefined || another !== undefined ? {} : { job: job.name }),
  };
}
