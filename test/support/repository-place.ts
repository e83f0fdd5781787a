import type { ByteStream } from '../../src/common/bytes.ts';
import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import type { Lease, Timers } from '../../src/repository/held-lease.ts';
import { makeBackupId, type BackupId } from '../../src/repository/ids.ts';
import { IntentLog, type OpenIntent } from '../../src/repository/intents.ts';
import { keys } from '../../src/repository/keys.ts';
import { Leases } from '../../src/repository/leases.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { ID_METADATA } from '../../src/repository/owned-objects.ts';
import { Repository } from '../../src/repository/repository.ts';
import { sweep, type SweepReport } from '../../src/repository/sweep.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FaultyStore } from './faulty-store.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryStore } from './memory-store.ts';

export const TERM_MS = 60_000;
const noTimers: Timers = { after: () => () => {} };
export const startedAt = new Date('2026-11-20T02:00:00Z');

/** A backup's run as far as the repository sees it, step by step. */
export interface Run {
  readonly id: BackupId;
  readonly lease: Lease;
  readonly intent: OpenIntent;
  /** Writes the backup's object, as a stream that opens an upload. */
  upload(): Promise<void>;
  /** Opens an upload of the backup's object and never ends it. */
  hang(): Promise<void>;
  commit(): Promise<void>;
}

/** A repository whose runs and sweeps share one clock; `store` is where a test steps in. */
export class Place {
  readonly clock = new ManualClock(startedAt);
  readonly store: FaultyStore;
  readonly repository: Repository;
  readonly intents: IntentLog;
  readonly #ended = new AbortController();

  constructor(inner: ObjectStore) {
    this.store = new FaultyStore(inner);
    // The store's time is turned by hand too.
    inner.now = async () => this.clock.now();
    this.repository = new Repository(this.store, { clock: this.clock, random: systemRandom });
    this.intents = new IntentLog(this.store);
  }

  leasesOf(host: string): Leases {
    const holder = { host, pid: 1, runId: `run-of-${host}`, command: 'pgark backup' };
    const { clock } = this;
    const options = { clock, random: systemRandom, logger: silentLogger, termMs: TERM_MS, timers: noTimers, holder };
    return new Leases(this.store, options);
  }

  async sweep(held: readonly Lease[] = []): Promise<SweepReport> {
    return sweep({ repository: this.repository, leases: this.leasesOf('sweeper'), logger: silentLogger, held });
  }

  async begin(key: string, database = 'shop', prefixes: (id: BackupId) => string[] = () => []): Promise<Run> {
    const lease = await this.leasesOf('runner').acquire(database);
    const id = makeBackupId(startedAt, 'p', systemRandom);
    const source = 'main';
    const plan = { id, runId: 'dead-run', lease, source, database, startedAt, keys: [key], prefixes: prefixes(id) };
    const intent = await this.intents.begin(plan);
    const put = (body: ByteStream): Promise<unknown> =>
      this.store.putStream(key, body, {
        metadata: { [ID_METADATA]: id },
        signal: this.#ended.signal,
        onUploadOpened: (opened) => intent.addUpload(opened),
      });
    return {
      id,
      lease,
      intent,
      upload: async () => {
        await put(oneBlock(`data of ${id}`));
      },
      hang: async () => {
        const opened = Promise.withResolvers<undefined>();
        void put(hanging(() => opened.resolve(undefined))).catch(() => {});
        await opened.promise;
      },
      commit: async () => {
        await lease.confirm();
        await this.repository.commit(manifestOf(id, database, [key]));
        await intent.finish();
        await lease.release();
      },
    };
  }

  /** The process of a run is gone, and its lease has expired. */
  die(): void {
    this.clock.stopFor(2 * TERM_MS);
  }

  async keys(): Promise<string[]> {
    const found: string[] = [];
    for await (const { key } of this.store.list('')) if (!key.startsWith(keys.leasesPrefix)) found.push(key);
    return found;
  }

  async uploads(): Promise<string[]> {
    const found: string[] = [];
    for await (const { key } of this.store.listUploads('')) found.push(key);
    return found;
  }

  /** An upload of somebody else's that goes on until the end of the test. */
  async hang(key: string): Promise<void> {
    const opened = Promise.withResolvers<undefined>();
    const body = hanging(() => opened.resolve(undefined));
    void this.store.putStream(key, body, { signal: this.#ended.signal }).catch(() => {});
    await opened.promise;
  }

  async etagOf(key: string): Promise<string | undefined> {
    return (await this.store.head(key))?.etag;
  }

  /** Ends uploads that hang. */
  end(): void {
    this.#ended.abort(new Error('the test is over'));
  }
}

/** Places over stores that tell whose an object is, and over such as do not. */
export const places = {
  'an object store': () => new Place(new MemoryStore()),
  'a store without metadata': () => new Place(new MemoryStore({ kind: 'rclone', keepsMetadata: false })),
};
export const placeNames = Object.keys(places) as (keyof typeof places)[];

export async function* oneBlock(text: string): ByteStream {
  yield Buffer.from(text);
}

async function* hanging(begun: () => void): ByteStream {
  yield Buffer.from('the first bytes');
  begun();
  await new Promise(() => {});
}

export function manifestOf(id: BackupId, database: string, objectKeys: readonly string[], etag?: string): Manifest {
  const time = startedAt.toISOString();
  const digest = '0'.repeat(64);
  return {
    layout: 1,
    id,
    format: 'plain',
    source: 'main',
    database: {
      name: database,
      oid: '16384',
      owner: 'owner',
      encoding: 'UTF8',
      collation: 'C',
      ctype: 'C',
      localeProvider: 'libc',
      bytes: 1,
    },
    server: { host: 'localhost', port: 5432, version: '18.1', versionNum: 180_001, inRecovery: false },
    client: { program: 'pg_dump', version: '18.1' },
    startedAt: time,
    endedAt: time,
    storeTime: time,
    runId: 'run',
    objects: objectKeys.map((key) => ({
      key,
      role: 'dump',
      storedBytes: 1,
      storedSha256: digest,
      plainBytes: 1,
      plainSha256: digest,
      ...(etag === undefined ? {} : { etag }),
    })),
    compression: { algorithm: 'gzip', level: 6 },
    parents: [],
    excluded: [],
    unreadable: [],
    pgarkVersion: '0.1.0',
  };
}
