import type { ByteStream } from '../../src/common/bytes.ts';
import type {
  CallOptions,
  ObjectBody,
  ObjectInfo,
  ObjectKey,
  ObjectStore,
  ProbeOptions,
  ProviderProfile,
  PutSmallOptions,
  PutStreamOptions,
  StoredObject,
  UploadInfo,
  ByteRange,
} from '../../src/storage/object-store.ts';

export type StoreMethod = keyof Omit<ObjectStore, 'kind' | 'location' | 'close'>;

/** One call to the store, as it is about to be made or has been made. */
export interface StoreCall {
  readonly method: StoreMethod;
  readonly key: string;
  /** From 1. */
  readonly number: number;
}

export interface StoreFaults {
  /** Awaited before a call; if it throws, the call is not made. */
  readonly before?: (call: StoreCall) => void | Promise<void>;
  /** Awaited after a call that succeeded; if it throws, the answer is lost although the call has taken effect. */
  readonly after?: (call: StoreCall) => void | Promise<void>;
}

/** Passes every call on, and lets a test step in before and after each. A list counts as one call. */
export class FaultyStore implements ObjectStore {
  readonly kind: ObjectStore['kind'];
  readonly location: string;
  /** How many calls were made. */
  calls = 0;
  faults: StoreFaults;
  readonly #store: ObjectStore;

  constructor(store: ObjectStore, faults: StoreFaults = {}) {
    this.kind = store.kind;
    this.location = store.location;
    this.faults = faults;
    this.#store = store;
  }

  putSmall(key: ObjectKey, body: Uint8Array, options?: PutSmallOptions): Promise<ObjectInfo> {
    return this.#pass('putSmall', key, () => this.#store.putSmall(key, body, options));
  }

  putStream(key: ObjectKey, body: ByteStream, options?: PutStreamOptions): Promise<StoredObject> {
    return this.#pass('putStream', key, () => this.#store.putStream(key, body, options));
  }

  get(key: ObjectKey, options?: CallOptions & { readonly range?: ByteRange }): Promise<ObjectBody> {
    return this.#pass('get', key, () => this.#store.get(key, options));
  }

  head(key: ObjectKey, options?: CallOptions): Promise<ObjectInfo | undefined> {
    return this.#pass('head', key, () => this.#store.head(key, options));
  }

  list(prefix: string, options?: CallOptions & { readonly startAfter?: ObjectKey }): AsyncIterable<ObjectInfo> {
    return this.#passList('list', prefix, () => this.#store.list(prefix, options));
  }

  delete(key: ObjectKey, options?: CallOptions): Promise<void> {
    return this.#pass('delete', key, () => this.#store.delete(key, options));
  }

  listUploads(prefix: string, options?: CallOptions): AsyncIterable<UploadInfo> {
    return this.#passList('listUploads', prefix, () => this.#store.listUploads(prefix, options));
  }

  abortUpload(upload: UploadInfo, options?: CallOptions): Promise<void> {
    return this.#pass('abortUpload', upload.key, () => this.#store.abortUpload(upload, options));
  }

  now(options?: CallOptions): Promise<Date> {
    return this.#pass('now', '', () => this.#store.now(options));
  }

  probe(options?: ProbeOptions): Promise<ProviderProfile> {
    return this.#pass('probe', '', () => this.#store.probe(options));
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  async #pass<T>(method: StoreMethod, key: string, run: () => Promise<T>): Promise<T> {
    const call = this.#next(method, key);
    await this.faults.before?.(call);
    const result = await run();
    await this.faults.after?.(call);
    return result;
  }

  async *#passList<T>(method: StoreMethod, key: string, run: () => AsyncIterable<T>): AsyncIterable<T> {
    const call = this.#next(method, key);
    await this.faults.before?.(call);
    yield* run();
    await this.faults.after?.(call);
  }

  #next(method: StoreMethod, key: string): StoreCall {
    this.calls += 1;
    return { method, key, number: this.calls };
  }
}
