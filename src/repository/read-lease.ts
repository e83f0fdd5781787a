import type { Clock } from '../common/clock.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { leaseRecordSchema, type LeaseRecord } from './lease-record.ts';
import { readState, type StateObject } from './state-object.ts';

/** How long an advisory lease waits before it looks whether another one was written over it. */
export const ADVISORY_SETTLE_MS = 500;

/**
 * `conditional`: the store's conditional writes decide who holds it. `advisory`: the store has none that work, so two
 * that acquire within the same moment may both believe in it; one pruner and one scheduler must then be enough.
 */
export type LeaseMode = 'conditional' | 'advisory';

/**
 * The record of a lease; undefined if there is none. A store without conditional writes may replace an object by taking the old
 * one away first, so that there is neither for an instant, at each renewal of a lease that lives: what is not seen there is
 * looked for once more.
 */
export async function readLease(
  store: ObjectStore,
  key: ObjectKey,
  { mode, clock }: { readonly mode: LeaseMode; readonly clock: Clock },
  call: CallOptions = {},
): Promise<StateObject<LeaseRecord> | undefined> {
  const seen = await readState(store, key, leaseRecordSchema, call);
  if (seen !== undefined || mode === 'conditional') return seen;
  await clock.sleep(ADVISORY_SETTLE_MS, call.signal);
  return readState(store, key, leaseRecordSchema, call);
}
