import type { NotificationEvent } from '../notify/message.ts';
import type { Config } from '../config/model.ts';
import { ANY_DATABASE } from '../observability/expectations.ts';
import type { JobReport } from './job-report.ts';
import { databaseOf, type Job } from './jobs.ts';
import type { BackupReport } from './reports.ts';
import { GLOBALS } from './run-job.ts';
import type { RunListener } from './run-listener.ts';
import { describeOver, isOver, overHint } from './storage-sizes.ts';
import type { Teller } from './tell.ts';
import { isIncrementalId } from '../repository/ids.ts';
import { type Manifest, sizesOf } from '../repository/manifest.ts';

/** Tells the channels of the configuration of each run of a job, whoever started it. */
export function runTeller(config: Config, teller: Teller, now: () => Date): RunListener {
  const starting = new Map<string, Promise<void>>();
  return {
    onRunStarted({ id, source, settings }: Job) {
      const start = {
        source: source.name,
        database: databaseOf(source) ?? ANY_DATABASE,
        job: settings.name,
        startedAt: now(),
      };
      // Nobody waits for it before the end: a watchdog that is away delays no backup.
      starting.set(id, teller.starts(config, [start]));
    },
    async onRunEnded(report) {
      await starting.get(report.job.id);
      starting.delete(report.job.id);
      // In one: a watchdog is given one sign for all of it.
      await teller.backups(config, reportsOf(report), [...globalsResolved(report), ...storageEvents(report)]);
    },
  };
}

function reportsOf(report: JobReport): readonly BackupReport[] {
  const { job, startedAt, endedAt, results, standing, nextTryAt, runId, log } = report;
  // Whoever was told of them is not told again; but the run as a whole is one that failed.
  const failures = standing.filter(({ error }) => error !== undefined);
  return [...results, ...failures].map((result) => {
    const { database, storage, outcome, error, pruned } = result;
    const manifest = outcome?.kind === 'committed' ? outcome.manifest : undefined;
    return {
      source: job.source.name,
      database,
      job: job.settings.name,
      storage,
      startedAt,
      endedAt,
      error,
      pruned,
      log,
      runId: error?.runId ?? manifest?.runId ?? runId,
      nextTryAt: failures.includes(result) ? undefined : nextTryAt,
      backupId: manifest?.id,
      storedBytes: manifest && sizesOf(manifest).storedBytes,
      suspicions: manifest && suspicionsIn(manifest),
    };
  });
}

/** An incremental backup says nothing of the size that full ones have. */
function suspicionsIn({ id, suspicions = [] }: Manifest): readonly string[] | undefined {
  return isIncrementalId(id) ? undefined : suspicions.map(({ message }) => message);
}

/** A storage that holds more than it should is a problem of each source that is backed up to it, until one of them finds it right. */
function storageEvents({ job, endedAt, sizes, runId }: JobReport): readonly NotificationEvent[] {
  return sizes.map((size) => {
    const { storage } = size;
    const about = { at: endedAt, source: job.source.name, storage, ...(runId === undefined ? {} : { runId }) };
    if (!isOver(size)) return { ...about, event: 'resolved', of: 'storage_size' };
    const error = { code: 'storage-size', message: describeOver(size), hint: overHint(storage) };
    return { ...about, event: 'storage_size', error };
  });
}

/** Globals that were stored are told of only where their failure was. */
function globalsResolved({ job, endedAt, globalsIn, runId }: JobReport): readonly NotificationEvent[] {
  return globalsIn.map((storage) => ({
    event: 'resolved' as const,
    of: 'failure' as const,
    at: endedAt,
    source: job.source.name,
    database: GLOBALS,
    job: job.settings.name,
    storage,
    ...(runId === undefined ? {} : { runId }),
  }));
}
