import type { Digest } from './digest.ts';
import { fit } from './words.ts';

/** An error may be as long as a program's last words. */
const TEXT_LENGTH_MAX = 2_000;

/** What a webhook and `-o json` have of a digest: the same facts as its text, by names that stay. */
export function digestJson(digest: Digest): Readonly<Record<string, unknown>> {
  const { channel, since, at, databases, standing, notes, runs, failures, wal, storages } = digest;
  return {
    channel,
    since: since.toISOString(),
    until: at.toISOString(),
    protected: standing.length === 0,
    standing: standing.map(({ sentence, fix }) => ({ message: short(sentence), hint: fix && short(fix) })),
    databases: databases.map(({ source, database, state, backups }) => ({
      source,
      database,
      state,
      backups: backups.map((each) => ({
        format: each.format,
        storage: each.storage,
        last_good_at: each.lastGoodAt === 'never' ? null : each.lastGoodAt.toISOString(),
        last_stored_bytes: each.lastBytes,
        backups: each.count,
        overdue: each.isOverdue,
        next_run_at: each.nextRunAt?.toISOString(),
        last_drill_at: each.lastDrillAt?.toISOString(),
      })),
    })),
    runs: runs.map(({ kind, succeeded, failed }) => ({ kind, succeeded, failed })),
    failures: failures.map(({ kind, source, database, storages: where, times, lastAt, isOver, error }) => ({
      kind,
      source,
      database,
      storages: where,
      times,
      last_at: lastAt.toISOString(),
      works_again: isOver,
      error: { code: error.code, message: short(error.message), hint: short(error.hint) },
    })),
    wal: wal.map(({ source, isInTime, earliest, latest, lossMs, gaps, storedBytes }) => ({
      source,
      in_time: isInTime,
      earliest: earliest?.toISOString(),
      latest: latest?.toISOString(),
      loss_seconds: lossMs === undefined ? undefined : Math.round(lossMs / 1_000),
      gaps,
      stored_bytes: storedBytes,
    })),
    storages: storages.map(({ storage, storedBytes, grownBytes }) => ({
      storage,
      stored_bytes: storedBytes ?? null,
      grown_bytes: grownBytes,
    })),
    notes: notes.map(short),
  };
}

function short(text: string): string {
  return fit(text, { lengthMax: TEXT_LENGTH_MAX });
}
