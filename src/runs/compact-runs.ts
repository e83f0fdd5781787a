import { PgarkError } from '../common/errors.ts';
import { allOf } from '../common/in-parallel.ts';
import type { Logger } from '../common/log.ts';
import type { Random } from '../common/random.ts';
import { makeRunId, timeOfRunId } from '../repository/ids.ts';
import { keys, parseRunKey, parseRunLogKey } from '../repository/keys.ts';
import { readState, readStateBytes } from '../repository/state-object.ts';
import { type CallOptions, type ObjectKey, type ObjectStore, SMALL_OBJECT_BYTES_MAX } from '../storage/object-store.ts';
import { type CompactedRuns, encodeCompactedRuns, orDamaged, readCompactedRuns } from './compacted-runs.ts';
import { OpenRuns } from './open-runs.ts';
import { laterRecord, type RunRecord, runRecordSchema } from './run-record.ts';

const DAY_MS = 86_400_000;
/** Days after which a run's record is compacted: nobody who follows runs as they happen looks for it any more. */
const SETTLED_AFTER_DAYS = 3;
/** How old a compacted object is before what went into it is deleted: far older than any listing under way. */
const REPLACED_AFTER_MS = 3_600_000;
/** Days for which the log of a run is kept. */
const LOG_KEPT_DAYS = 30;
/** What one call does at the most; the next one goes on. */
const RUNS_PER_CALL_MAX = 10_000;
const LOGS_PER_CALL_MAX = 10_000;
const CALLS_IN_FLIGHT_MAX = 16;
/** Runs of one day that are kept when they are compacted: the newest of those that succeeded, and of the others. */
const SUCCEEDED_PER_DAY_MAX = 2_000;
const OTHERS_PER_DAY_MAX = 500;

export interface CompactRunsOptions extends CallOptions {
  /** The store's time. */
  readonly now: Date;
  readonly random: Random;
  readonly logger: Logger;
}

export interface CompactionReport {
  /** Runs whose own records became part of a compacted object. */
  readonly compacted: number;
  /** Runs that were let go: there were more on one day than are kept. */
  readonly dropped: number;
  readonly logsDeleted: number;
}

/**
 * Puts the records of runs that started days ago into one object for each month, and deletes logs that are old.
 *
 * What is compacted is written into a new object of a name that nobody else uses, and read back. No object is ever written
 * over. What went into it is deleted by a later call, once it has been there for an hour: whoever reads, and was under way
 * when something is deleted, has been shown what took its place. Hence a crash, or another one that compacts at the same
 * time, leaves a record in several objects, which readers take for one and a later call puts together, and never in none.
 * No lease and no conditional write is needed for that.
 *
 * Does little where there is little to do: a page or two of a listing. Rejects with the store's error.
 */
export async function compactRuns(store: ObjectStore, options: CompactRunsOptions): Promise<CompactionReport> {
  const work = new Compaction(store, options);
  const [runs, logsDeleted] = await allOf([work.compact(), work.deleteLogs()]);
  return { ...runs, logsDeleted };
}

interface MonthToCompact {
  readonly month: string;
  /** Records of single runs that are old enough. */
  readonly singles: ObjectKey[];
  readonly compactedCount: number;
}

/** A record of a run with a key of its own. */
interface Single {
  readonly key: ObjectKey;
  readonly record: RunRecord;
}

interface CompactedObject extends CompactedRuns {
  readonly key: ObjectKey;
}

class Compaction {
  readonly #store: ObjectStore;
  readonly #options: CompactRunsOptions;
  readonly #call: CallOptions;

  constructor(store: ObjectStore, options: CompactRunsOptions) {
    this.#store = store;
    this.#options = options;
    this.#call = options.signal === undefined ? {} : { signal: options.signal };
  }

  async compact(): Promise<Omit<CompactionReport, 'logsDeleted'>> {
    let compacted = 0;
    let dropped = 0;
    for (const month of await this.#listMonths()) {
      if (month.singles.length === 0 && month.compactedCount < 2) continue;
      const present = await this.#readCompacted(month.month);
      const covered = new Set(present.flatMap(({ sources }) => sources));
      const uncovered = await this.#readSingles(month.singles.filter((key) => !covered.has(key)));
      const revived = await this.#readRevived(month.singles, covered, present);
      const fresh = [...(await this.#settled(uncovered)), ...revived];
      const newest = present.filter(({ key }) => !covered.has(key));
      if (fresh.length > 0 || newest.length > 1) dropped += await this.#write(month.month, newest, fresh);
      compacted += fresh.length;
      const kept = new Set(revived.map(({ key }) => key));
      const replaced = this.#replaced(present);
      const there = [...month.singles, ...present.map(({ key }) => key)];
      await this.#deleteAll(there.filter((key) => replaced.has(key) && !kept.has(key)));
    }
    return { compacted, dropped };
  }

  /** Oldest first; ends at the first that is too young, since keys sort by time. */
  async deleteLogs(): Promise<number> {
    const before = this.#options.now.getTime() - LOG_KEPT_DAYS * DAY_MS;
    const old: ObjectKey[] = [];
    for await (const { key } of this.#store.list(keys.runLogsPrefix, this.#call)) {
      const id = parseRunLogKey(key);
      if (id === undefined) continue;
      if (timeOfRunId(id).getTime() >= before || old.length >= LOGS_PER_CALL_MAX) break;
      old.push(key);
    }
    await this.#deleteAll(old);
    return old.length;
  }

  async #listMonths(): Promise<readonly MonthToCompact[]> {
    // Whole days, so that each month's object is written once a day and not for each run that comes of age.
    const settledMs = startOfDay(this.#options.now.getTime() - SETTLED_AFTER_DAYS * DAY_MS);
    const months = new Map<string, MonthToCompact>();
    let count = 0;
    for await (const { key } of this.#store.list(keys.runsPrefix, this.#call)) {
      const parsed = parseRunKey(key);
      if (parsed === undefined) continue;
      const { month } = parsed;
      const known = months.get(month) ?? { month, singles: [], compactedCount: 0 };
      if (parsed.kind === 'compacted') {
        months.set(month, { ...known, compactedCount: known.compactedCount + 1 });
        continue;
      }
      // Keys sort by time: what follows is younger, but for compacted objects, which wait until there is work.
      if (timeOfRunId(parsed.id).getTime() >= settledMs || count >= RUNS_PER_CALL_MAX) break;
      known.singles.push(key);
      months.set(month, known);
      count += 1;
    }
    return [...months.values()];
  }

  /** What cannot be read stays as it is. */
  async #readSingles(wanted: readonly ObjectKey[]): Promise<readonly Single[]> {
    const singles: Single[] = [];
    for (const batch of batches(wanted)) {
      const read = await Promise.all(
        batch.map((key) => orDamaged(key, undefined, () => readState(this.#store, key, runRecordSchema, this.#call))),
      );
      for (const [index, found] of read.entries()) {
        const key = batch[index];
        if (key !== undefined && found !== undefined && found !== 'damaged') singles.push({ key, record: found.value });
      }
    }
    return singles;
  }

  /** What ended, and what died without a word, which is said of it from now on. What goes on is left out. */
  async #settled(singles: readonly Single[]): Promise<readonly Single[]> {
    const open = new OpenRuns(this.#store, this.#call);
    const settled: Single[] = [];
    // Oldest first, so that leases are asked for once.
    for (const { key, record } of singles) {
      const now = await open.settled(record);
      if (now.state !== 'running') settled.push({ key, record: now });
    }
    return settled;
  }

  /** Runs that were taken for dead when they were compacted, and have ended since. */
  async #readRevived(
    singles: readonly ObjectKey[],
    covered: ReadonlySet<ObjectKey>,
    present: readonly CompactedObject[],
  ): Promise<readonly Single[]> {
    const known = mergeById(present.flatMap(({ runs }) => runs));
    const dead = new Set<string | undefined>(known.filter(({ endedAt }) => endedAt === undefined).map(({ id }) => id));
    const doubtful = singles.filter((key) => covered.has(key) && dead.has(parseRunKey(key)?.id));
    return (await this.#readSingles(doubtful)).filter(({ record }) => record.endedAt !== undefined);
  }

  /** Those that hold something which this version does not understand are not taken apart, and replace nothing. */
  async #readCompacted(month: string): Promise<readonly CompactedObject[]> {
    const present: CompactedObject[] = [];
    for await (const { key } of this.#store.list(keys.compactedRunsPrefix(month), this.#call)) {
      if (parseRunKey(key) === undefined) continue;
      const found = await orDamaged(key, undefined, () => readCompactedRuns(this.#store, key, this.#call));
      if (found !== undefined && found !== 'damaged' && found.unreadable === 0) present.push({ key, ...found });
    }
    return present;
  }

  /** Keys of what went into objects that have been there for long enough. */
  #replaced(present: readonly CompactedObject[]): ReadonlySet<ObjectKey> {
    const before = this.#options.now.getTime() - REPLACED_AFTER_MS;
    return new Set(present.filter(({ key }) => idTime(key) <= before).flatMap(({ sources }) => sources));
  }

  /** After this resolves the records are in the store under a key that is new. Gives how many were let go. */
  async #write(month: string, earlier: readonly CompactedObject[], singles: readonly Single[]): Promise<number> {
    const { now, random, logger } = this.#options;
    const sources = [...earlier, ...singles].map(({ key }) => key);
    const all = mergeById([...earlier.flatMap(({ runs }) => runs), ...singles.map(({ record }) => record)]);
    let runs = all;
    let bytes: Uint8Array;
    let share = 1;
    do {
      runs = thinned(all, share);
      bytes = await encodeCompactedRuns(month, { sources, runs });
      share /= 2;
    } while (bytes.length > SMALL_OBJECT_BYTES_MAX && runs.length > 0);
    // Later than what went into it, whatever the clocks say: no two can ever replace each other.
    const times = earlier.map(({ key }) => idTime(key) + 1);
    const key = keys.compactedRuns(month, makeRunId(new Date(Math.max(now.getTime(), ...times)), random));
    const condition = { ifAbsent: true } as const;
    await this.#store.putSmall(key, bytes, { ...this.#call, condition, contentType: 'application/gzip' });
    const back = await readStateBytes(this.#store, key, this.#call);
    if (back === undefined || Buffer.compare(back.bytes, bytes) !== 0) {
      throw new PgarkError('store-integrity', `${key} in ${this.#store.location} is not what was written there`);
    }
    logger.debug('runs.compacted', `the records of ${runs.length} runs of ${month} lie in ${key}`, { key });
    return all.length - runs.length;
  }

  async #deleteAll(all: readonly ObjectKey[]): Promise<void> {
    for (const batch of batches(all)) {
      await Promise.all(batch.map((key) => this.#store.delete(key, this.#call)));
    }
  }
}

/** Each run once, oldest first. */
function mergeById(records: readonly RunRecord[]): readonly RunRecord[] {
  const merged = new Map<string, RunRecord>();
  for (const record of records) {
    const other = merged.get(record.id);
    merged.set(record.id, other === undefined ? record : laterRecord(other, record));
  }
  return [...merged.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** The newest of each day; what did not succeed is never driven out by what did. */
function thinned(records: readonly RunRecord[], share: number): readonly RunRecord[] {
  const left = new Map<string, number>();
  return records
    .toReversed()
    .filter(({ id, state }) => {
      const succeeded = state === 'succeeded';
      const key = `${startOfDay(timeOfRunId(id).getTime())} ${succeeded}`;
      const room = left.get(key) ?? Math.floor((succeeded ? SUCCEEDED_PER_DAY_MAX : OTHERS_PER_DAY_MAX) * share);
      left.set(key, room - 1);
      return room > 0;
    })
    .reverse();
}

function idTime(key: ObjectKey): number {
  const parsed = parseRunKey(key);
  return parsed === undefined ? 0 : timeOfRunId(parsed.id).getTime();
}

function startOfDay(timeMs: number): number {
  return Math.floor(timeMs / DAY_MS) * DAY_MS;
}

function* batches<T>(all: readonly T[]): Iterable<readonly T[]> {
  for (let start = 0; start < all.length; start += CALLS_IN_FLIGHT_MAX) {
    yield all.slice(start, start + CALLS_IN_FLIGHT_MAX);
  }
}
