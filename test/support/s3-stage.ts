import { type ByteStream, MIB } from '../../src/common/bytes.ts';
import { distinctBytes, streamOf } from '../../src/storage/contract/harness.contract.ts';
import type { PutStreamOptions, StoredObject } from '../../src/storage/object-store.ts';
import type { S3StoreOptions } from '../../src/storage/s3/options.ts';
import type { S3Store } from '../../src/storage/s3/s3-store.ts';
import { type Decide, type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { s3Facts } from './facts.ts';
import { createBucket, type TestBucket } from './s3.ts';
import { openS3Store } from './s3-store.ts';

export const PART = 8 * MIB;
export const KEY = 'some/object';
/** Three parts. */
export const bytes = distinctBytes(2 * PART + 12_345);

/** A store behind a proxy, probed already, so that faults count from the put or get under test. */
export interface Stage extends AsyncDisposable {
  readonly bucket: TestBucket;
  readonly proxy: FaultProxy;
  readonly store: S3Store;
  /** The same place without faults between. */
  readonly direct: S3Store;
}

export async function setStage(options: Partial<S3StoreOptions> = {}): Promise<Stage> {
  const bucket = await createBucket();
  const proxy = await startFaultProxy(s3Facts().endpoint);
  const store = openS3Store(bucket.name, { endpoint: proxy.endpoint, inactivityTimeoutMs: 1_000, ...options });
  await store.probe({ write: true });
  return {
    bucket,
    proxy,
    store,
    direct: openS3Store(bucket.name),
    async [Symbol.asyncDispose]() {
      await store.close();
      await proxy[Symbol.asyncDispose]();
      await bucket.remove();
    },
  };
}

export type Outcome = { readonly stored: StoredObject } | { readonly error: unknown };

export async function put(
  stage: Stage,
  decide: Decide,
  options?: PutStreamOptions,
  body: ByteStream = streamOf(bytes),
): Promise<Outcome> {
  stage.proxy.setFaults(decide);
  try {
    return { stored: await stage.store.putStream(KEY, body, options) };
  } catch (error) {
    return { error };
  }
}
