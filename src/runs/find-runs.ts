import { isRunId, timeOfRunId, type RunId } from '../repository/ids.ts';
import { keys, monthOf, parseRunKey } from '../repository/keys.ts';
import { readState } from '../repository/state-object.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { orDamaged, readCompactedRuns } from './compacted-runs.ts';
import { laterRecord, type RunRecord, runRecordSchema } from './run-record.ts';

const ID_CHARACTERS = 26;
/** Ids can say later times, which keys cannot. */
const TIME_MAX = new Date('9999-12-31T23:59:59.999Z');

/** The record of a run by its id, whether it lies alone or was compacted; undefined if this store has none. */
export async function findRunRecord(
  store: ObjectStore,
  id: string,
  options: CallOptions = {},
): Promise<RunRecord | undefined> {
  if (!isRunId(id)) return undefined;
  const startedAt = timeOfRunId(id);
  const single = (await readState(store, keys.run(startedAt, id), runRecordSchema, options))?.value;
  // What has a record of its own and ended needs no look at the others.
  if (single !== undefined && single.state !== 'running') return single;
  let found = single;
  for await (const { key } of store.list(keys.compactedRunsPrefix(monthOf(startedAt)), options)) {
    for (const record of await compactedRuns(store, key, options)) {
      if (record.id === id) found = found === undefined ? record : laterRecord(found, record);
    }
  }
  return found;
}

/** Ids of runs that begin with this, as far as `idsMax`, oldest first. */
export async function runIdsWith(
  store: ObjectStore,
  prefix: string,
  options: CallOptions & { readonly idsMax: number },
): Promise<readonly RunId[]> {
  const { idsMax, signal } = options;
  const call: CallOptions = signal === undefined ? {} : { signal };
  const from = `${prefix}${'0'.repeat(ID_CHARACTERS)}`.slice(0, ID_CHARACTERS);
  const to = `${prefix}${'Z'.repeat(ID_CHARACTERS)}`.slice(0, ID_CHARACTERS);
  if (!isRunId(from)) return [];
  const lastMonth = isRunId(to) ? monthOf(clampedTime(to)) : '';
  const ids = new Set<RunId>();
  // The month's folder begins before the id: it may have been compacted.
  const startAfter = `${keys.runsPrefix}${monthOf(clampedTime(from))}`;
  for await (const { key } of store.list(keys.runsPrefix, { ...call, startAfter })) {
    const parsed = parseRunKey(key);
    if (parsed === undefined) continue;
    if (parsed.month > lastMonth || ids.size >= idsMax) break;
    if (parsed.kind === 'single') {
      if (parsed.id.startsWith(prefix)) ids.add(parsed.id);
      continue;
    }
    for (const { id } of await compactedRuns(store, key, call)) if (id.startsWith(prefix)) ids.add(id);
  }
  return [...ids].sort((a, b) => (a < b ? -1 : 1)).slice(0, idsMax);
}

/** Nothing of what cannot be read, or is gone: a later one that is listed too holds what it held. */
async function compactedRuns(store: ObjectStore, key: ObjectKey, call: CallOptions): Promise<readonly RunRecord[]> {
  if (parseRunKey(key) === undefined) return [];
  const found = await orDamaged(key, undefined, () => readCompactedRuns(store, key, call));
  return found === undefined || found === 'damaged' ? [] : found.runs;
}

function clampedTime(id: RunId): Date {
  const time = timeOfRunId(id);
  return time > TIME_MAX ? TIME_MAX : time;
}
