import type { ObjectStore } from '../storage/object-store.ts';
import { newestRuns, type RunReadOptions } from './newest-runs.ts';
import type { RunRecord } from './run-record.ts';

/** Records of the runs that started since a time, in order of their start. Rejects with the store's error. */
export async function listRunRecords(store: ObjectStore, options: RunReadOptions): Promise<readonly RunRecord[]> {
  const records: RunRecord[] = [];
  for await (const record of newestRuns(store, options)) records.push(record);
  return records.reverse();
}
