import type { Clock } from '../common/clock.ts';
import { messageOf } from '../common/errors.ts';
import type { StorageConfig } from '../config/model.ts';
import { listRunRecords } from '../runs/list-run-records.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { type LastStart, lastClaimed } from './claims.ts';
import { selectNames } from './database-patterns.ts';
import { type DigestJob, DIGESTS } from './digest-run.ts';
import type { Generation } from './generation.ts';
import type { Job } from './jobs.ts';
import { claimNameOf, type ProofJob } from './proof-jobs.ts';
import { Slots } from './slots.ts';
import { type TimeLimit, timeLimit } from './time-limit.ts';

/** Longer than a month, the longest usual schedule. */
const HISTORY_MS = 35 * 86_400_000;
/** As many records as are read of a storage for jobs that no schedule has run yet. */
const RECORDS_MAX = 1_000;
const READS_MAX = 16;
/** A storage that is away keeps nothing waiting for longer. */
const READ_MS_MAX = 10_000;

/** When jobs were due or begun the last time, by their ids. */
export interface LastStarts {
  readonly known: ReadonlyMap<string, LastStart>;
  /** Of these a storage did not answer, and none knows anything: it may be that something was missed. */
  readonly unknown: ReadonlySet<string>;
}

type World = Pick<Generation, 'stores' | 'context' | 'logger'>;

/**
 * When each job was due or begun the last time, as the storages know it: the newest due time that was claimed; for a job that
 * no daemon has run yet, the newest attempt to back up a database of its source in its format. Never rejects; ends early when it is time
 * to stop.
 */
export async function lastStarts(jobs: readonly Job[], world: World, stopping: AbortSignal): Promise<LastStarts> {
  const { stores, context } = world;
  const limit = readLimit(context.clock, stopping);
  const { signal } = limit;
  const told = new Told();
  const slots = new Slots(READS_MAX);
  const storages = new Map(jobs.flatMap((job) => job.storages).map((storage) => [storage.name, storage]));
  await Promise.all(
    [...storages.values()].map(async (storage) => {
      const here = jobs.filter((job) => job.storages.some(({ name }) => name === storage.name));
      try {
        const store = await stores.open(storage);
        await Promise.all(
          here.map(({ id, source, settings }) =>
            slots.within(signal, async () =>
              told.note(id, await lastClaimed(store, { source: source.name, job: settings.name }, { signal })),
            ),
          ),
        );
        const unknown = here.filter(({ id }) => !told.knows(id));
        if (unknown.length === 0) return;
        const attempts = await attemptsIn(store, context.clock.now(), signal);
        for (const job of unknown) {
          const at = newestOf(job, attempts);
          told.note(job.id, at && { at, isOpen: false });
        }
      } catch (error) {
        for (const { id } of here) told.miss(id);
        if (!stopping.aborted) warnOfSilence(storage, error, world);
      }
    }),
  );
  limit.end();
  return told.all();
}

/**
 * The same for proofs, of which only claims are known: one that was never due waits for its next time. So does one that was begun
 * and has not ended: a drill may take hours, on another host too, and is not to be begun there once more.
 */
export async function lastStartsOfProofs(
  proofs: readonly ProofJob[],
  world: World,
  stopping: AbortSignal,
): Promise<LastStarts> {
  const claimed = proofs.map(({ id, kind, source, storages }) => ({
    id,
    source: source.name,
    job: claimNameOf(kind),
    storages,
  }));
  const { known, unknown } = await lastClaims(claimed, world, stopping);
  return { known: new Map([...known].map(([id, start]) => [id, { ...start, isOpen: false }])), unknown };
}

/** The same for digests. One that was due and was not sent is open: it is sent by the next start. */
export async function lastStartsOfDigests(
  digests: readonly DigestJob[],
  world: World,
  stopping: AbortSignal,
): Promise<LastStarts> {
  const claimed = digests.map(({ id, channel, storages }) => ({ id, source: DIGESTS, job: channel, storages }));
  return lastClaims(claimed, world, stopping);
}

interface Claimed {
  readonly id: string;
  readonly source: string;
  readonly job: string;
  readonly storages: readonly StorageConfig[];
}

async function lastClaims(claimed: readonly Claimed[], world: World, stopping: AbortSignal): Promise<LastStarts> {
  const limit = readLimit(world.context.clock, stopping);
  const { signal } = limit;
  const told = new Told();
  const ask = async ({ id, source, job }: Claimed, storage: StorageConfig, slots: Slots): Promise<void> => {
    try {
      const store = await world.stores.open(storage);
      const start = await slots.within(signal, () => lastClaimed(store, { source, job }, { signal }));
      told.note(id, start);
    } catch (error) {
      told.miss(id);
      if (!stopping.aborted) warnOfSilence(storage, error, world);
    }
  };
  // All at once: what one that is away keeps waiting, the others have said meanwhile.
  const asked = claimed.flatMap((each) => each.storages.map((storage) => ({ each, storage })));
  const ofStorages = [...Map.groupBy(asked, ({ storage }) => storage.name).values()];
  await Promise.all(
    ofStorages.flatMap((ofOne) => {
      const slots = new Slots(READS_MAX);
      return ofOne.map(({ each, storage }) => ask(each, storage, slots));
    }),
  );
  limit.end();
  return told.all();
}

/** What storages have told so far, and of what one of them has told nothing. */
class Told {
  readonly #known = new Map<string, LastStart>();
  readonly #missed = new Set<string>();

  note(id: string, start: LastStart | undefined): void {
    const known = this.#known.get(id);
    if (start !== undefined && (known === undefined || start.at > known.at)) this.#known.set(id, start);
  }

  miss(id: string): void {
    this.#missed.add(id);
  }

  knows(id: string): boolean {
    return this.#known.has(id);
  }

  all(): LastStarts {
    return { known: this.#known, unknown: this.#missed.difference(this.#known) };
  }
}

function readLimit(clock: Clock, stopping: AbortSignal): TimeLimit {
  return timeLimit(clock, READ_MS_MAX, `no answer within ${READ_MS_MAX / 1_000} s`, stopping);
}

function warnOfSilence({ name }: StorageConfig, error: unknown, { logger }: World): void {
  const sentence = `storage ${name} cannot say what ran last: ${messageOf(error)}`;
  logger.warning('schedule.history_unknown', sentence, { storage: name });
}

/** An attempt to back something up. */
interface Attempt {
  readonly source: string;
  /** Missing: of all at once. */
  readonly database: string | undefined;
  /** Missing: as earlier versions recorded it, of any. */
  readonly format: string | undefined;
  readonly at: Date;
}

async function attemptsIn(store: ObjectStore, now: Date, signal: AbortSignal): Promise<readonly Attempt[]> {
  const since = new Date(now.getTime() - HISTORY_MS);
  const records = await listRunRecords(store, { since, recordsMax: RECORDS_MAX, signal });
  return records.flatMap(({ kind, source, database, format, startedAt, error }) =>
    // A run that met another one at work was no attempt.
    kind !== 'backup' || source === undefined || error?.code === 'locked'
      ? []
      : [{ source, database, format, at: new Date(startedAt) }],
  );
}

/** Of all databases that the source's patterns choose; one that was left out since then says nothing of the job. */
function newestOf({ source, settings }: Job, attempts: readonly Attempt[]): Date | undefined {
  const { name, connection, databases: patterns } = source;
  const own = attempts.filter(
    (each) => each.source === name && (each.format === undefined || each.format === settings.format),
  );
  const names = own.flatMap(({ database }) => database ?? []);
  const isOfOne = patterns === undefined || settings.format === 'physical';
  const chosen = new Set([undefined, ...(isOfOne ? [connection.database] : selectNames(patterns, names))]);
  const times = own.flatMap(({ database, at }) => (chosen.has(database) ? [at] : []));
  return times.reduce<Date | undefined>((newest, at) => (newest !== undefined && newest > at ? newest : at), undefined);
}
