import type { Manifest } from '../../src/repository/manifest.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Cluster, type ClusterOptions } from './cluster.ts';
import { backUpServer, manifestOf, type PhysicalBackupOptions, ServerFolder } from './physical.ts';
import { openS3Store } from './s3-store.ts';
import { createBucket, type TestBucket } from './s3.ts';
import { flushedLsn, type Receiving, startReceiving } from './wal-receiving.ts';

/** Where a command line that names only the bucket looks. */
export const DEFAULT_PREFIX = 'postgres-backups';

/** A server with small segments, a bucket for its backups and its WAL, and a folder for what is restored of them. */
export class ArchivedServer implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly folder: ServerFolder;
  readonly bucket: TestBucket;
  readonly store: ObjectStore;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<ArchivedServer, 'cluster' | 'folder' | 'bucket' | 'store'>,
    stack: AsyncDisposableStack,
  ) {
    ({ cluster: this.cluster, folder: this.folder, bucket: this.bucket, store: this.store } = parts);
    this.#stack = stack;
  }

  static async start(options: ClusterOptions = {}): Promise<ArchivedServer> {
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await Cluster.start({ initdb: ['--wal-segsize=1'], ...options }));
    const bucket = stack.use(await createBucket());
    const store = openS3Store(bucket.name, { prefix: DEFAULT_PREFIX });
    stack.defer(() => store.close());
    const folder = stack.use(await ServerFolder.make(cluster.binDir));
    return new ArchivedServer({ cluster, folder, bucket, store }, stack.move());
  }

  /** From now on its WAL is archived, until that is stopped or the server goes. */
  async receive(): Promise<Receiving> {
    const receiving = this.#stack.use(startReceiving(this.cluster, [this.store], { source: 'main', slot: 'main' }));
    await receiving.streams();
    return receiving;
  }

  /** All that it has written is archived, and what comes behind is not. */
  async archiveAll(receiving: Receiving): Promise<void> {
    await receiving.archives(await flushedLsn(this.cluster));
    await receiving.stop();
  }

  async backUp(changes: PhysicalBackupOptions = {}): Promise<Manifest> {
    const destination = { name: 's3', store: this.store, needsDelete: false };
    return manifestOf(await backUpServer(this.cluster, [{ destination }], changes));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
