import type { ObjectBody, ObjectKey, ObjectStore } from '../../src/storage/object-store.ts';
import { flipBit } from './damage.ts';
import { FaultyStore, type StoreFaults } from './faulty-store.ts';

/** Passes every call on, and turns a bit of each object that is read while the test says so; what is stored stays as it is. */
export class DamagingStore extends FaultyStore {
  readonly #damages: (key: string) => boolean;

  constructor(store: ObjectStore, damages: (key: string) => boolean, faults: StoreFaults = {}) {
    super(store, faults);
    this.#damages = damages;
  }

  override async get(key: ObjectKey, options?: Parameters<ObjectStore['get']>[1]): Promise<ObjectBody> {
    const { info, body } = await super.get(key, options);
    return this.#damages(key) ? { info, body: damaged(body) } : { info, body };
  }
}

async function* damaged(body: ObjectBody['body']): AsyncGenerator<Uint8Array> {
  let isWhole = true;
  for await (const chunk of body) {
    const copy = Uint8Array.from(chunk);
    if (isWhole && copy.length > 0) flipBit(copy, Math.floor(copy.length / 2));
    isWhole = false;
    yield copy;
  }
}
