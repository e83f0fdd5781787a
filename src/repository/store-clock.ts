import type { CallOptions, ObjectStore } from '../storage/object-store.ts';

/** The store's time where it can be had: a storage in files is written to for it, which a reader may not be allowed. */
export async function storeTimeIfKnown(store: ObjectStore, options: CallOptions): Promise<Date | undefined> {
  try {
    return await store.now(options);
  } catch {
    options.signal?.throwIfAborted();
    return undefined;
  }
}
