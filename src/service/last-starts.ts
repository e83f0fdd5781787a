import { messageOf } from '../common/errors.ts';
import { listRunRecords } from '../runs/list-run-records.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { type LastStart, lastClaimed } from './claims.ts';
import type { Generation } from './generation.ts';
import type { Job } from './jobs.ts';
import { Slots } from './slots.ts';

/** Longer than a month, the longest usual schedule. */
const HISTORY_MS = 35 * 86_400_000;
/** As many records as are read of a storage for jobs that no schedule has run yet. */
const RECORDS_MAX = 1_000;
const READS_MAX = 16;
/** A storage that is away keeps nothing waiting for longer. */
const READ_MS_MAX = 10_000;

/**
 * When each job was due or begun the last time, by its id, as the storages know it: the newest due time that was claimed;
 * for a job that no daemon has run yet, the newest attempt to back up its database. A storage that cannot be read is left
 * out: then what it knows is learnt when the job claims its next due time. Never rejects; ends early when it is time to stop.
 */
export async function lastStarts(
  jobs: readonly Job[],
  { stores, context, logger }: Pick<Generation, 'stores' | 'context' | 'logger'>,
  stopping: AbortSignal,
): Promise<ReadonlyMap<string, LastStart>> {
  const signal = AbortSignal.any([stopping, AbortSignal.timeout(READ_MS_MAX)]);
  const last = new Map<string, LastStart>();
  const note = (job: Job, start: LastStart | undefined): void => {
    const known = last.get(job.id);
    if (start !== undefined && (known === undefined || start.at > known.at)) last.set(job.id, start);
  };
  const slots = new Slots(READS_MAX);
  const storages = new Map(jobs.flatMap((job) => job.storages).map((storage) => [storage.name, storage]));
  await Promise.all(
    [...storages.values()].map(async (storage) => {
      const here = jobs.filter((job) => job.storages.some(({ name }) => name === storage.name));
      try {
        const store = await stores.open(storage);
        await Promise.all(
          here.map((job) =>
            slots.within(signal, async () =>
              note(job, await lastClaimed(store, { source: job.source.name, job: job.settings.name }, { signal })),
            ),
          ),
        );
        const unknown = here.filter(({ id }) => !last.has(id));
        if (unknown.length === 0) return;
        const attempts = await newestAttempts(store, context.clock.now(), signal);
        for (const job of unknown) {
          const at = attempts.get(pairOf(job.source.name, job.source.connection.database));
          note(job, at && { at, isOpen: false });
        }
      } catch (error) {
        if (stopping.aborted) return;
        logger.warning(
          'schedule.history_unknown',
          `storage ${storage.name} cannot say what ran last: ${messageOf(error)}`,
          {
            storage: storage.name,
          },
        );
      }
    }),
  );
  return last;
}

/** When the newest attempt to back up each database started, by `pairOf`. */
async function newestAttempts(store: ObjectStore, now: Date, signal: AbortSignal): Promise<ReadonlyMap<string, Date>> {
  const attempts = new Map<string, Date>();
  const since = new Date(now.getTime() - HISTORY_MS);
  for (const record of await listRunRecords(store, { since, recordsMax: RECORDS_MAX, signal })) {
    const { kind, source, database, startedAt, error } = record;
    // A run that met another one at work was no attempt.
    if (kind !== 'backup' || source === undefined || database === undefined || error?.code === 'locked') continue;
    attempts.set(pairOf(source, database), new Date(startedAt));
  }
  return attempts;
}

function pairOf(source: string, database: string): string {
  return JSON.stringify([source, database]);
}
