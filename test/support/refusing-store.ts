import { PgarkError } from '../../src/common/errors.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FaultyStore } from './faulty-store.ts';

/** Takes no WAL of the source `shop` while it `refuses`; notes on it, leases and the like it takes. */
export class RefusingStore extends FaultyStore {
  refuses = false;

  constructor(store: ObjectStore) {
    super(store);
    this.faults = {
      before: ({ method, key }) => {
        if (this.refuses && method.startsWith('put') && key.startsWith('shop/'))
          throw new PgarkError('store-unreachable', 'the test refuses');
      },
    };
  }
}
