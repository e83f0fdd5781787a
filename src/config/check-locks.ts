import { Cron } from 'croner';
import { FULL_EVERY_DEFAULT } from '../retention/policy.ts';
import type { Config, JobConfig, StorageConfig } from './model.ts';
import type { Schedule } from './schedule.ts';

const DAY_MS = 86_400_000;
/** Runs that are looked through for the longest chain, beyond the first one: of a daily schedule more than two months. */
const FURTHER_RUNS = 70;
/** Any will do: a warning is not to depend on the day it is given on. */
const FROM = new Date('2026-01-01T00:00:00Z');

/**
 * A sentence for each job that makes chains of incremental backups which last longer than their storage locks what it is given: the full
 * backup could be deleted while newer ones need it.
 */
export function warnOfShortLocks({ databases, storages }: Pick<Config, 'databases' | 'storages'>): readonly string[] {
  return [...databases.values()].flatMap(({ name, jobs }) =>
    [...jobs.values()].flatMap((job) => {
      const locks = job.to.flatMap((storage) => {
        const days = lockDaysOf(storages.get(storage));
        return days === undefined ? [] : [{ storage, days }];
      });
      const lastsMs = locks.length === 0 ? undefined : chainMs(job);
      if (lastsMs === undefined) return [];
      const { fullEvery = FULL_EVERY_DEFAULT } = job;
      return locks
        .filter(({ days }) => days * DAY_MS < lastsMs)
        .map(
          ({ storage, days }) =>
            `databases.${name}.jobs.${job.name}: a chain of ${fullEvery} incremental backups lasts up to ${Math.ceil(lastsMs / DAY_MS)}d, and storage ${storage} locks for ${days}d: its full backup can be deleted while newer ones need it; raise object_lock.days, or lower full_every`,
        );
    }),
  );
}

function lockDaysOf(storage: StorageConfig | undefined): number | undefined {
  return storage?.type === 's3' ? storage.objectLock?.days : undefined;
}

/** From a full backup to the next one, at the longest. Undefined for a job that makes no chains, or only by hand. */
function chainMs({ incremental, fullEvery = FULL_EVERY_DEFAULT, schedule }: JobConfig): number | undefined {
  if (!incremental || schedule === undefined || fullEvery < 2) return undefined;
  return schedule.kind === 'interval' ? fullEvery * schedule.everyMs : longestMs(schedule, fullEvery);
}

/** In UTC, whatever the schedule's own zone: the hour by which a chain lasts longer where clocks are put back is none of its matter. */
function longestMs({ expression }: Extract<Schedule, { kind: 'cron' }>, runs: number): number {
  const cron = new Cron(expression, { mode: '5-part', paused: true, timezone: 'UTC' });
  const times = cron.nextRuns(runs + FURTHER_RUNS, FROM).map((time) => time.getTime());
  return Math.max(0, ...times.slice(runs).map((end, index) => end - (times[index] ?? end)));
}
