import { KIB } from '../common/bytes.ts';
import { type Throttle, throttled } from '../pipeline/throttle.ts';
import type { ObjectStore } from '../storage/object-store.ts';

/** What is read of at most this size does not wait: leases and records must not stand behind data. */
const SMALL_BYTES_MAX = 64 * KIB;

/** The same store, whose bodies pass the throttle on their way there and back. What is small is counted, and does not wait. */
export function throttledStore(store: ObjectStore, throttle: Throttle): ObjectStore {
  return {
    kind: store.kind,
    location: store.location,
    putSmall: (key, body, options) => {
      throttle.count(body.byteLength);
      return store.putSmall(key, body, options);
    },
    putStream: (key, body, options = {}) => {
      const { signal, onHeldBack: onSlice } = options;
      return store.putStream(key, throttled(body, throttle, { signal, onSlice }), options);
    },
    get: async (key, options = {}) => {
      const { info, body } = await store.get(key, options);
      const { range, signal } = options;
      const end = Math.min(info.bytes, (range?.end ?? info.bytes) + 1);
      const bytes = Math.max(0, end - (range?.start ?? 0));
      if (bytes > SMALL_BYTES_MAX) return { info, body: throttled(body, throttle, { signal }) };
      throttle.count(bytes);
      return { info, body };
    },
    head: (key, options) => store.head(key, options),
    list: (prefix, options) => store.list(prefix, options),
    delete: (key, options) => store.delete(key, options),
    listUploads: (prefix, options) => store.listUploads(prefix, options),
    abortUpload: (upload, options) => store.abortUpload(upload, options),
    now: (options) => store.now(options),
    probe: (options) => store.probe(options),
    close: () => store.close(),
  };
}

/** For bodies that an adapter sends once more, which pass the throttle no second time by themselves. */
export function resendingBy(throttle: Throttle): (bytes: number, signal?: AbortSignal) => Promise<void> {
  return async (bytes, signal) => {
    if (bytes > SMALL_BYTES_MAX) await throttle.pass(bytes, { signal });
    else throttle.count(bytes);
  };
}
