import type { Config } from '../config/model.ts';
import type { NotificationEvent } from '../notify/message.ts';
import { ANY_DATABASE } from '../observability/expectations.ts';
import { type BackupProtection, isOverdue, type ProtectionState } from '../observability/protection-state.ts';

/** Everything that is overdue, as something to tell. */
export function overdueEvents(config: Config, state: ProtectionState): readonly NotificationEvent[] {
  return state.backups
    .filter((backup) => isOverdue(backup, state.at))
    .map((backup) => overdueEvent(config, state, backup));
}

export function overdueEvent(config: Config, state: ProtectionState, backup: BackupProtection): NotificationEvent {
  const { source, database, format, storage, lastSuccess, expectation, nextRunAt } = backup;
  const jobs = [...(config.databases.get(source)?.jobs.values() ?? [])].filter(
    (job) => job.format === format && job.to.includes(storage),
  );
  const [job, another] = jobs;
  const wasRead = state.storages.some((known) => known.storage === storage && known.readAt !== undefined);
  const maxAgeMs = expectation.kind === 'expected' ? expectation.maxAgeMs : undefined;
  return {
    event: 'overdue',
    at: state.at,
    source,
    ...(database === ANY_DATABASE ? {} : { database }),
    storage,
    // Where several jobs make the same backups, any of them ends it.
    ...(job === undefined || another !== undefined ? {} : { job: job.name }),
    ...(lastSuccess === undefined
      ? wasRead
        ? { lastGoodAt: 'never' as const }
        : {}
      : { lastGoodAt: lastSuccess.startedAt }),
    ...(maxAgeMs === undefined ? {} : { maxAgeMs }),
    ...(nextRunAt === undefined ? {} : { nextTryAt: nextRunAt }),
  };
}
