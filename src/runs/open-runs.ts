import { type LeaseFact, leaseFacts } from '../repository/lease-facts.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { isStillRunning } from './is-still-running.ts';
import type { RunRecord } from './run-record.ts';

interface LeasesSeen {
  readonly since: Date;
  readonly storeNow: Date;
  readonly leases: readonly LeaseFact[];
}

/** Says of runs whose records say `running` whether they are; asks the store no more often than it has to. */
export class OpenRuns {
  readonly #store: ObjectStore;
  readonly #call: CallOptions;
  #seen: LeasesSeen | undefined;

  constructor(store: ObjectStore, call: CallOptions) {
    this.#store = store;
    this.#call = call;
  }

  /** The record, or one that says `interrupted` where nobody is left who could end the run. */
  async settled(record: RunRecord): Promise<RunRecord> {
    if (record.state !== 'running') return record;
    const { leases, storeNow } = await this.#leasesSince(new Date(record.startedAt));
    return isStillRunning(record, leases, storeNow) ? record : { ...record, state: 'interrupted' };
  }

  async #leasesSince(since: Date): Promise<LeasesSeen> {
    if (this.#seen !== undefined && this.#seen.since <= since) return this.#seen;
    const storeNow = await this.#store.now(this.#call);
    const leases = await leaseFacts(this.#store, { ...this.#call, since, storeNow });
    this.#seen = { since, storeNow, leases };
    return this.#seen;
  }
}
