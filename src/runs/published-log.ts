import type { Logger } from '../common/log.ts';
import type { Timers } from '../repository/held-lease.ts';
import type { ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { LogTail } from './log-tail.ts';

/** How old the log in the store may be while the run goes on. */
const FLUSH_MS = 10_000;

/**
 * Keeps the tail of a run's log in a store: now and then while the run goes on, so that others can look, and whole at its
 * end. What cannot be written while it goes on is tried again with the next time.
 */
export class PublishedLog {
  readonly #tail: LogTail;
  readonly #store: ObjectStore;
  readonly #key: ObjectKey;
  readonly #timers: Timers;
  #changesWritten = 0;
  #cancel: (() => void) | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(tail: LogTail, place: { readonly store: ObjectStore; readonly key: ObjectKey; readonly timers: Timers }) {
    this.#tail = tail;
    this.#store = place.store;
    this.#key = place.key;
    this.#timers = place.timers;
  }

  start(): void {
    this.#cancel = this.#timers.after(FLUSH_MS, () => {
      this.#writing = this.#flush()
        .catch(() => {})
        .then(() => {
          if (this.#cancel !== undefined) this.start();
        });
    });
  }

  /** The last writing, with what is said at the end of this store's log alone. Rejects with the store's error. */
  async finish(sayLast: (logger: Logger) => void): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
    const whole = new LogTail(this.#tail);
    sayLast(whole.logger);
    // What is on its way must not arrive after the whole.
    await this.#writing;
    await this.#put(whole);
  }

  async #flush(): Promise<void> {
    const { changes } = this.#tail;
    if (changes === this.#changesWritten) return;
    await this.#put(this.#tail);
    this.#changesWritten = changes;
  }

  async #put(tail: LogTail): Promise<void> {
    await this.#store.putSmall(this.#key, tail.encode(), { contentType: 'application/x-ndjson' });
  }
}
