import type { Logger } from '../common/log.ts';
import type { Tracing } from '../common/tracer.ts';
import type { EncryptionConfig, StorageConfig, TracesConfig } from '../config/model.ts';
import type { Sealer } from '../pipeline/encryption/sealer.ts';
import type { Throttle } from '../pipeline/throttle.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { Slots } from './slots.ts';

/** What makes adapters of settings: the composition root, handed in so that nobody above it knows an adapter by name. */
export interface Adapters {
  /** All bodies of the store pass the throttle, if one is given. */
  openStore(config: StorageConfig, logger: Logger, throttle?: Throttle): Promise<ObjectStore>;
  sealerOf(config: EncryptionConfig | undefined): Promise<Sealer | undefined>;
  openTracing(config: TracesConfig | undefined, logger: Logger): Tracing;
}

/** The stores of one configuration: each is opened when it is first asked for, and shared by all that work in it. */
export class Stores {
  readonly #adapters: Pick<Adapters, 'openStore'>;
  readonly #logger: Logger;
  readonly #throttle: Throttle | undefined;
  readonly #open = new Map<string, Promise<ObjectStore>>();
  readonly #pruning = new Map<ObjectStore, Slots>();

  constructor(adapters: Pick<Adapters, 'openStore'>, logger: Logger, throttle?: Throttle) {
    this.#adapters = adapters;
    this.#logger = logger;
    this.#throttle = throttle;
  }

  /** Rejects with the adapter's error; the next call tries again. */
  async open(storage: StorageConfig): Promise<ObjectStore> {
    const known = this.#open.get(storage.name);
    if (known !== undefined) return known;
    const opening = this.#adapters.openStore(storage, this.#logger, this.#throttle);
    this.#open.set(storage.name, opening);
    try {
      return await opening;
    } catch (error) {
      this.#open.delete(storage.name);
      throw error;
    }
  }

  /** One at a time prunes a store: runs that end at the same moment wait for each other instead of giving up. */
  async whilePruning<T>(store: ObjectStore, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const slot = this.#pruning.get(store) ?? new Slots(1);
    this.#pruning.set(store, slot);
    return slot.within(signal, work);
  }

  async close(): Promise<void> {
    const opened = await Promise.allSettled(this.#open.values());
    this.#open.clear();
    for (const each of opened) if (each.status === 'fulfilled') await each.value.close();
  }
}
