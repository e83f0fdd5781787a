import { CopyObjectCommand, DeleteObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3';
import { expect } from 'vitest';
import { storedObjects } from '../../../src/formats/stored-objects.ts';
import { operationContext } from '../../../src/operations/context.ts';
import { verify } from '../../../src/operations/verify.ts';
import { keys } from '../../../src/repository/keys.ts';
import type { Manifest } from '../../../src/repository/manifest.ts';
import { Repository } from '../../../src/repository/repository.ts';
import { listRunRecords } from '../../../src/runs/list-run-records.ts';
import type { ObjectStore } from '../../../src/storage/object-store.ts';
import type { S3StoreOptions } from '../../../src/storage/s3/options.ts';
import { keysOf } from '../../support/destinations.ts';
import type { FaultProxy } from '../../support/fault-proxy.ts';
import type { TestBucket } from '../../support/s3.ts';
import { openS3Store } from '../../support/s3-store.ts';
import { bytesOf } from '../../support/streams.ts';
import { INACTIVITY_MS, isSilent, setAhead } from './http-faults.ts';
import type { FaultCase } from './sweep.ts';

/** Longer than a case lasts, and as far as the next run is ahead no reason for anybody to doubt the store's clock. */
export const LEASE_TERM_MS = 110_000;
const AHEAD_MS = LEASE_TERM_MS + 10_000;

/** What a run may leave that counts for nothing: how it went, who held what, what was proven; and WAL, which retention removes. */
const BOOKKEEPING = /^\.pgark\/(repository\.json$|leases\/|runs\/|logs\/|proofs\/)|^[^/]+\/wal\//;

const PROBE = /^\.pgark\/probe-[0-9a-f]{16}$/;

/** A repository of a case's own below a prefix of a bucket, which begins as a copy of another one. */
export class CasePlace implements AsyncDisposable {
  readonly prefix: string;
  /** Without a proxy before it. */
  readonly store: ObjectStore;
  readonly #bucket: TestBucket;
  readonly #proxy: FaultProxy;
  readonly #stack = new AsyncDisposableStack();
  #isKept = false;
  #mayHoldProbes = false;

  private constructor(bucket: TestBucket, proxy: FaultProxy, prefix: string) {
    this.#bucket = bucket;
    this.#proxy = proxy;
    this.prefix = prefix;
    this.store = this.#open({});
  }

  static async copyOf(bucket: TestBucket, from: string, proxy: FaultProxy, prefix: string): Promise<CasePlace> {
    const { client, name: Bucket } = bucket;
    const copied = await bucket.listKeys(`${from}/`);
    await Promise.all(
      copied.map((key) => {
        const Key = `${prefix}${key.slice(from.length)}`;
        return client.send(new CopyObjectCommand({ Bucket, Key, CopySource: encodeURI(`${Bucket}/${key}`) }));
      }),
    );
    return new CasePlace(bucket, proxy, prefix);
  }

  /** It stays until the bucket goes. */
  keep(): void {
    this.#isKept = true;
  }

  #open(options: Partial<S3StoreOptions>): ObjectStore {
    const store = openS3Store(this.#bucket.name, { prefix: this.prefix, ...options });
    this.#stack.defer(() => store.close());
    return store;
  }

  /** As an operation sees it that nothing happens to. */
  openThrough({ retriesMax }: Pick<FaultCase, 'retriesMax'>, options: Partial<S3StoreOptions> = {}): ObjectStore {
    return this.#open({ endpoint: this.#proxy.endpoint, retry: { retriesMax, delayMs: 10 }, ...options });
  }

  /** As the operation under test sees it. */
  openFaulty(fault: FaultCase): ObjectStore {
    return this.openThrough(fault, isSilent(fault) ? { inactivityTimeoutMs: INACTIVITY_MS } : {});
  }

  /** A process that is killed leaves what it tried the store with, and that is removed when it is an hour old. */
  mayHoldProbes(): void {
    this.#mayHoldProbes = true;
  }

  /** Whatever a run before held has come to its end, for whoever comes through the proxy from now on. */
  setLater(): void {
    setAhead(this.#proxy, AHEAD_MS);
  }

  /** As the next run sees it, when that is so. */
  openLater(): ObjectStore {
    this.setLater();
    return this.#open({ endpoint: this.#proxy.endpoint, probeStaleMs: LEASE_TERM_MS });
  }

  async manifests(): Promise<readonly Manifest[]> {
    const { manifests, damaged } = await new Repository(this.store, operationContext()).backups();
    expect(damaged).toEqual([]);
    return manifests;
  }

  /** What is these backups' own: what their manifests name, and the lists of sums of those that have one. */
  async keysOf(manifests: readonly Manifest[]): Promise<readonly string[]> {
    const { signal } = operationContext();
    const own = manifests.map(async (manifest) => {
      const objects = await storedObjects(manifest, { store: this.store, signal });
      return [keys.manifest(manifest.source, manifest.database.name, manifest.id), ...objects.map(({ key }) => key)];
    });
    return (await Promise.all(own)).flat();
  }

  /** Every committed backup is whole to its last byte; or, where something else reads all of it, as far as a sample tells. */
  async expectWhole({ deep = true } = {}): Promise<readonly Manifest[]> {
    const manifests = await this.manifests();
    const access = { keys: { identities: [], passphrases: [] }, filter: {}, selector: undefined, deep };
    const { backups } = await verify({ store: this.store, ...access }, operationContext());
    expect(backups.map(({ failure }) => failure)).toEqual(manifests.map(() => undefined));
    if (deep) expect(backups.map(({ depth }) => depth)).toEqual(manifests.map(() => 'read'));
    return manifests;
  }

  /** The same, and there is nothing that no run answers for: `holds` of readers are those that one before could not give back. */
  async expectSound({
    holds = [],
    ...depth
  }: {
    readonly deep?: boolean;
    readonly holds?: readonly string[];
  } = {}): Promise<readonly Manifest[]> {
    const manifests = await this.expectWhole(depth);
    const claimed = new Set([...(await this.keysOf(manifests)), ...holds]);
    const left = (await keysOf(this.store)).filter((key) => !claimed.has(key) && !BOOKKEEPING.test(key));
    const uploads: string[] = [];
    for await (const { key } of this.store.listUploads('')) uploads.push(key);
    const isLeftover = (key: string): boolean => !this.#mayHoldProbes || !PROBE.test(key);
    expect({ left: left.filter(isLeftover), uploads: uploads.filter(isLeftover) }).toEqual({ left: [], uploads: [] });
    return manifests;
  }

  /** These leases are there, and nobody holds any, of whatever name, any more. */
  async expectReleased(leases: readonly string[]): Promise<void> {
    const found: { readonly name: string; readonly released?: boolean }[] = [];
    for await (const { key } of this.store.list(keys.leasesPrefix)) {
      const { body } = await this.store.get(key);
      found.push(JSON.parse((await bytesOf(body)).toString()));
    }
    expect(found.filter(({ released }) => released !== true)).toEqual([]);
    expect(found.map(({ name }) => name)).toEqual(expect.arrayContaining([...leases]));
  }

  /** Where readers say that they read a backup. */
  async holds(): Promise<readonly string[]> {
    const holds: string[] = [];
    for await (const { key } of this.store.list(keys.readingPrefix)) holds.push(key);
    return holds;
  }

  /** States of all runs of a kind that left a record, the oldest first. */
  async states(kind: string): Promise<readonly string[]> {
    const records = await listRunRecords(this.store, { since: new Date(0) });
    return records.filter((record) => record.kind === kind).map(({ state }) => state);
  }

  /** What lies there, and the tag of each: it changes with the content. */
  async tags(among: readonly string[]): Promise<Readonly<Record<string, string>>> {
    const { client, name: Bucket } = this.#bucket;
    const tags = among.map(async (key) => {
      const head = await client.send(new HeadObjectCommand({ Bucket, Key: `${this.prefix}/${key}` }));
      return [key, head.ETag ?? ''] as const;
    });
    return Object.fromEntries(await Promise.all(tags));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    if (this.#isKept) return;
    const { client, name: Bucket } = this.#bucket;
    const left = await this.#bucket.listKeys(`${this.prefix}/`);
    await Promise.all(left.map((Key) => client.send(new DeleteObjectCommand({ Bucket, Key }))));
  }
}
