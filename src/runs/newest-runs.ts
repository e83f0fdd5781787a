import type { PgarkError } from '../common/errors.ts';
import { makeRunId, type RunId } from '../repository/ids.ts';
import { keys, parseRunKey } from '../repository/keys.ts';
import { readState } from '../repository/state-object.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { orDamaged, readCompactedRuns } from './compacted-runs.ts';
import { laterRecord, type RunRecord, runRecordSchema } from './run-record.ts';

/** Records read at once. */
const READS_IN_FLIGHT_MAX = 16;
/** Listing a store does not cost what reading does, yet a history without bound must not fill the memory. */
const RECORDS_MAX_DEFAULT = 20_000;

export interface RunReadOptions extends CallOptions {
  /** Records of runs that started before this are left out. */
  readonly since: Date;
  /** Give no more than this many, the newest. Default: 20,000. */
  readonly recordsMax?: number;
  /** Runs that are known to have ended: they are neither read nor given. */
  readonly knownRuns?: ReadonlySet<string>;
  /** Keys of compacted objects, which never change, that need no second reading. */
  readonly knownCompacted?: ReadonlySet<ObjectKey>;
  /** Told of each compacted object that was read or is known. */
  readonly onCompacted?: (key: ObjectKey) => void;
  /** Told of each object that cannot be read; the reading goes on without it. */
  readonly onDamaged?: (key: ObjectKey, error: PgarkError) => void;
}

/** What a listing shows of one month. */
interface MonthKeys {
  readonly compacted: ObjectKey[];
  /** Of runs that have a record of their own, oldest first. */
  readonly singles: { readonly key: ObjectKey; readonly id: RunId }[];
}

/**
 * Records of the runs that started since a time, the newest first, each run once, whether it has a record of its own, or
 * was compacted with others, or both. Nothing is read before it is asked for, so that whoever stops early has read
 * little. What is listed and then gone was compacted long ago into something that is listed too. Rejects with the store's
 * error.
 */
export async function* newestRuns(store: ObjectStore, options: RunReadOptions): AsyncGenerator<RunRecord> {
  const months = await listMonths(store, options);
  let left = options.recordsMax ?? RECORDS_MAX_DEFAULT;
  for (const month of months.reverse()) {
    for await (const record of runsOfMonth(store, month, options)) {
      if (left <= 0) return;
      left -= 1;
      yield record;
    }
  }
}

/** The smallest id that a run of this millisecond can have: ids begin with the time and sort by it. */
export function smallestRunId(time: Date): RunId {
  return makeRunId(time, { bytes: (count) => new Uint8Array(count), fraction: () => 0 });
}

/** Ascending. One listing shows both kinds: the compacted of a month come after its single ones. */
async function listMonths(store: ObjectStore, options: RunReadOptions): Promise<MonthKeys[]> {
  const { since, recordsMax = RECORDS_MAX_DEFAULT, knownRuns } = options;
  const months = new Map<string, MonthKeys>();
  const singles: { readonly month: string; readonly key: ObjectKey; readonly id: RunId }[] = [];
  const startAfter = keys.run(since, smallestRunId(since));
  for await (const { key } of store.list(keys.runsPrefix, { ...callOptions(options), startAfter })) {
    const parsed = parseRunKey(key);
    if (parsed === undefined) continue;
    const month = months.get(parsed.month) ?? { compacted: [], singles: [] };
    months.set(parsed.month, month);
    if (parsed.kind === 'compacted') month.compacted.push(key);
    else if (knownRuns?.has(parsed.id) !== true) singles.push({ ...parsed, key });
    // Half of what is kept is dropped at a time, so that a long listing costs no copy for each key.
    if (singles.length >= 2 * recordsMax) singles.splice(0, singles.length - recordsMax);
  }
  for (const { month, key, id } of singles.slice(-recordsMax)) months.get(month)?.singles.push({ key, id });
  return [...months.values()];
}

async function* runsOfMonth(
  store: ObjectStore,
  { compacted, singles }: MonthKeys,
  options: RunReadOptions,
): AsyncGenerator<RunRecord> {
  const waiting = await readCompacted(store, compacted, options);
  // Newest last, to be taken from the end.
  const order = [...waiting.keys()].sort((a, b) => (a < b ? -1 : 1));
  for (let end = singles.length; end > 0; end -= READS_IN_FLIGHT_MAX) {
    const batch = singles.slice(Math.max(0, end - READS_IN_FLIGHT_MAX), end);
    const records = await readSingles(store, batch, options);
    const due = new Map(records.map((record) => [record.id, record]));
    const from = batch[0]?.id ?? '';
    for (let id = order.at(-1); id !== undefined && id >= from; id = order.at(-1)) {
      order.pop();
      const [single, other] = [due.get(id), waiting.get(id)];
      const record = single !== undefined && other !== undefined ? laterRecord(single, other) : (single ?? other);
      if (record !== undefined) due.set(id, record);
    }
    yield* [...due.values()].sort((a, b) => (a.id < b.id ? 1 : -1));
  }
  for (const id of order.reverse()) {
    const record = waiting.get(id);
    if (record !== undefined) yield record;
  }
}

async function readCompacted(
  store: ObjectStore,
  compacted: readonly ObjectKey[],
  options: RunReadOptions,
): Promise<Map<RunId, RunRecord>> {
  const { since, knownRuns, knownCompacted, onCompacted, onDamaged } = options;
  const idMin = smallestRunId(since);
  const records = new Map<RunId, RunRecord>();
  for (const key of compacted) {
    if (knownCompacted?.has(key) !== true) {
      const found = await orDamaged(key, onDamaged, () => readCompactedRuns(store, key, callOptions(options)));
      if (found === undefined || found === 'damaged') continue;
      for (const record of found.runs) {
        if (record.id < idMin || knownRuns?.has(record.id) === true) continue;
        const other = records.get(record.id);
        records.set(record.id, other === undefined ? record : laterRecord(other, record));
      }
    }
    onCompacted?.(key);
  }
  return records;
}

async function readSingles(
  store: ObjectStore,
  batch: MonthKeys['singles'],
  options: RunReadOptions,
): Promise<readonly RunRecord[]> {
  const read = await Promise.all(
    batch.map(({ key }) =>
      orDamaged(key, options.onDamaged, () => readState(store, key, runRecordSchema, callOptions(options))),
    ),
  );
  return read.flatMap((found) => (found === undefined || found === 'damaged' ? [] : found.value));
}

function callOptions({ signal }: CallOptions): CallOptions {
  return signal === undefined ? {} : { signal };
}
