import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { keys } from './keys.ts';
import { isAlive, leaseRecordSchema } from './lease-record.ts';
import { readState } from './state-object.ts';

/** Hosts and store may tell different times; what changed this much earlier is looked at too. */
const SKEW_MS_MAX = 3_600_000;
const READS_IN_FLIGHT_MAX = 16;

/** What a lease says of the run that holds it or was the last to hold it. */
export interface LeaseFact {
  readonly runId: string;
  readonly alive: boolean;
  /** When it was taken, renewed or released the last time, by the store's clock. */
  readonly changedAt: Date;
}

/**
 * The leases that were written since a time, alive or not. A living lease is renewed all the time; hence this finds the
 * lease of every run that started since then and still works, and reads few of the many that are at rest.
 */
export async function leaseFacts(
  store: ObjectStore,
  options: CallOptions & { readonly since: Date; readonly storeNow: Date },
): Promise<readonly LeaseFact[]> {
  const { since, storeNow, signal } = options;
  const call: CallOptions = signal === undefined ? {} : { signal };
  const changed: { readonly key: string; readonly changedAt: Date }[] = [];
  for await (const { key, modified } of store.list(keys.leasesPrefix, call)) {
    if (modified.getTime() >= since.getTime() - SKEW_MS_MAX) changed.push({ key, changedAt: modified });
  }
  const facts: LeaseFact[] = [];
  for (let start = 0; start < changed.length; start += READS_IN_FLIGHT_MAX) {
    const batch = changed.slice(start, start + READS_IN_FLIGHT_MAX);
    const read = await Promise.all(
      batch.map(async ({ key, changedAt }) => {
        const found = await readState(store, key, leaseRecordSchema, call);
        return found && { runId: found.value.holder.runId, alive: isAlive(found.value, storeNow), changedAt };
      }),
    );
    for (const fact of read) if (fact !== undefined) facts.push(fact);
  }
  return facts;
}
