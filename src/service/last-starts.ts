import { messageOf } from '../common/errors.ts';
import type { SourceConfig } from '../config/model.ts';
import { listRunRecords } from '../runs/list-run-records.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { type LastStart, lastClaimed } from './claims.ts';
import { selectNames } from './database-patterns.ts';
import type { Generation } from './generation.ts';
import type { Job } from './jobs.ts';
import { claimNameOf, type ProofJob } from './proof-jobs.ts';
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
 * for a job that no daemon has run yet, the newest attempt to back up a database of its source. A storage that cannot be read is left
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
          const at = newestOf(job.source, attempts);
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

/**
 * The same for proofs, of which only claims are known: one that was never due waits for its next time. So does one that was begun
 * and has not ended: a drill may take hours, on another host too, and is not to be begun there once more.
 */
export async function lastStartsOfProofs(
  proofs: readonly ProofJob[],
  { stores, logger }: Pick<Generation, 'stores' | 'logger'>,
  stopping: AbortSignal,
): Promise<ReadonlyMap<string, LastStart>> {
  const signal = AbortSignal.any([stopping, AbortSignal.timeout(READ_MS_MAX)]);
  const last = new Map<string, LastStart>();
  for (const { id, kind, source, storages } of proofs) {
    for (const storage of storages) {
      try {
        const store = await stores.open(storage);
        const start = await lastClaimed(store, { source: source.name, job: claimNameOf(kind) }, { signal });
        const known = last.get(id);
        if (start !== undefined && (known === undefined || start.at > known.at)) {
          last.set(id, { ...start, isOpen: false });
        }
      } catch (error) {
        if (stopping.aborted) return last;
        logger.warning(
          'schedule.history_unknown',
          `storage ${storage.name} cannot say what ran last: ${messageOf(error)}`,
          {
            storage: storage.name,
          },
        );
      }
    }
  }
  return last;
}

/** Of each source, by its name: when the newest attempt started to back up each database, or all (`undefined`) at once. */
type Attempts = ReadonlyMap<string, ReadonlyMap<string | undefined, Date>>;

async function newestAttempts(store: ObjectStore, now: Date, signal: AbortSignal): Promise<Attempts> {
  const attempts = new Map<string, Map<string | undefined, Date>>();
  const since = new Date(now.getTime() - HISTORY_MS);
  for (const record of await listRunRecords(store, { since, recordsMax: RECORDS_MAX, signal })) {
    const { kind, source, database, startedAt, error } = record;
    // A run that met another one at work was no attempt.
    if (kind !== 'backup' || source === undefined || error?.code === 'locked') continue;
    const ofSource = attempts.get(source) ?? new Map<string | undefined, Date>();
    attempts.set(source, ofSource.set(database, new Date(startedAt)));
  }
  return attempts;
}

/** Of all databases that the source's patterns choose; one that was left out since then says nothing of the job. */
function newestOf({ name, connection, databases: patterns }: SourceConfig, attempts: Attempts): Date | undefined {
  const known = attempts.get(name) ?? new Map<string | undefined, Date>();
  if (patterns === undefined) return known.get(connection.database);
  const names = [...known.keys()].filter((database) => database !== undefined);
  const times = [undefined, ...selectNames(patterns, names)].flatMap((database) => known.get(database) ?? []);
  return times.reduce<Date | undefined>((newest, at) => (newest !== undefined && newest > at ? newest : at), undefined);
}
