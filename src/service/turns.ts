import type { Job } from './jobs.ts';
import { Slots } from './slots.ts';

/**
 * When a job may work: so many at once, and never two on the same database, which would find it locked. Jobs of one
 * database wait for each other, and take no slot while they do.
 */
export class Turns {
  readonly #slots: Slots;
  readonly #lanes = new Map<string, Slots>();

  constructor(concurrency: number) {
    this.#slots = new Slots(concurrency);
  }

  /** Takes effect as turns end. */
  resize(concurrency: number): void {
    this.#slots.resize(concurrency);
  }

  /** Rejects with the signal's reason if it is aborted before the turn has come. */
  async within<T>(job: Job, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const { host, port, database } = job.source.connection;
    const key = JSON.stringify([host, port, database]);
    const lane = this.#lanes.get(key) ?? new Slots(1);
    this.#lanes.set(key, lane);
    return lane.within(signal, () => this.#slots.within(signal, work));
  }
}
