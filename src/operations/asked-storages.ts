import { asPgarkError, PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { NamedStore, RunListing } from './list-runs.ts';

interface Answer<T> {
  readonly storage: string;
  readonly value: T;
}

/** Storages that are asked for the same; one that fails is passed over, and not asked again. */
export class AskedStorages {
  readonly #count: number;
  readonly #passedOver: RunListing['failures'][number][];
  #answering: readonly NamedStore[];
  #warned = 0;

  /** `unopened`: others, which are passed over from the beginning. */
  constructor(storages: readonly NamedStore[], unopened: RunListing['failures'] = []) {
    this.#count = storages.length + unopened.length;
    this.#passedOver = [...unopened];
    this.#answering = storages;
  }

  /** Those that have answered whatever they were asked. */
  get answering(): readonly NamedStore[] {
    return this.#answering;
  }

  /** The answers of those that give one. */
  async ask<T>(signal: AbortSignal, question: (store: ObjectStore) => Promise<T>): Promise<readonly Answer<T>[]> {
    const failed = new Set<NamedStore>();
    const answers = await Promise.all(
      this.#answering.map(async (storage) => {
        try {
          return [{ storage: storage.name, value: await question(storage.store) }];
        } catch (thrown) {
          signal.throwIfAborted();
          failed.add(storage);
          this.#passedOver.push({ storage: storage.name, error: asPgarkError(thrown) });
          return [];
        }
      }),
    );
    this.#answering = this.#answering.filter((storage) => !failed.has(storage));
    return answers.flat();
  }

  /** Says once of each that it is passed over. */
  warn(logger: Logger): void {
    for (const { storage, error } of this.#passedOver.slice(this.#warned)) {
      const words = `storage ${storage} is passed over: ${error.message}; it may know more of the run`;
      logger.warning('storage.passed_over', words, { storage, code: error.code });
    }
    this.#warned = this.#passedOver.length;
  }

  /** Why it is not known whether there is what none that answers has; undefined where all have answered. */
  unknown(what: string): PgarkError | undefined {
    const [failure] = this.#passedOver;
    if (failure === undefined || this.#count === 1) return failure?.error;
    const words = this.#passedOver.map(({ storage, error }) => `${storage}: ${error.message}`).join('; ');
    const { code, hint } = failure.error;
    return new PgarkError(code, `no storage that answers has ${what}; ${words}`, { hint, cause: failure.error });
  }
}
