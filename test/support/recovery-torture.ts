import { setTimeout } from 'node:timers/promises';
import { systemRandom } from '../../src/common/random.ts';
import { targetAt, targetAtLsn } from '../../src/operations/recovery/recovery-target.ts';
import type { RecoveryRequest } from '../../src/operations/restore-directory.ts';
import { formatLsn } from '../../src/postgres/wal/lsn.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { findServerPrograms } from '../../src/postgres/server/server-programs.ts';
import { Cluster } from './cluster.ts';
import { s3Facts } from './facts.ts';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { checkSums, Pgbench } from './pgbench.ts';
import { backUpServer, type RestoredServer, ServerFolder } from './physical.ts';
import { type ReceiverProcess, startReceiver } from './receiver-process.ts';
import { NumberedLoad, restoreTo, type WrittenRow } from './recovery-world.ts';
import { createBucket, type TestBucket } from './s3.ts';
import { openS3Store } from './s3-store.ts';
import { flushedLsn } from './wal-receiving.ts';

type Target = RecoveryRequest['target'];

/** A target, and the last row that is there when a recovery has ended at it. */
export interface Aim {
  readonly name: string;
  readonly target: Target;
  readonly last: number;
}

export interface TortureOptions {
  /** Rows between one event and the next. */
  readonly rows: number;
  /** How long the storage refuses at the least. Default: as long as the rows take. */
  readonly refusalMs?: number;
  /** Folder of pgbench, another load beside the rows, whose sums have to agree. Default: there is none. */
  readonly benchDir?: string;
  /** Folders of the server’s programs and of pg_basebackup. Default: of the newest server that is installed. */
  readonly binDir?: string;
  readonly clientDir?: string;
}

const KINDS = ['time', 'lsn', 'xid', 'restore-point'] as const;
/** The prefix of who names only a bucket. */
const PREFIX = 'postgres-backups';

/**
 * The archive of a server that had a bad day: rows were written without pause while its receiver was killed three times, once
 * amid an upload, the storage refused, and its standby took over.
 */
export class TorturedArchive implements AsyncDisposable {
  readonly store: ObjectStore;
  readonly folder: ServerFolder;
  /** Everything that was committed and is on the way of the server that is left. */
  readonly rows: WrittenRow[] = [];
  readonly #bucket: TestBucket;
  readonly #proxy: FaultProxy;
  readonly #owned: AsyncDisposableStack;
  readonly #options: TortureOptions;
  /** How many rows there were when the base backup was complete, and at each event behind it. */
  readonly #events: number[] = [];

  private constructor(
    parts: { bucket: TestBucket; proxy: FaultProxy; folder: ServerFolder },
    owned: AsyncDisposableStack,
    options: TortureOptions,
  ) {
    this.#bucket = parts.bucket;
    this.#proxy = parts.proxy;
    this.folder = parts.folder;
    this.store = openS3Store(parts.bucket.name, { prefix: PREFIX });
    this.#owned = owned;
    this.#owned.defer(() => this.store.close());
    this.#options = options;
  }

  static async make(options: TortureOptions): Promise<TorturedArchive> {
    const owned = new AsyncDisposableStack();
    try {
      const binDir = options.binDir ?? (await findServerPrograms());
      const parts = {
        bucket: owned.use(await createBucket()),
        proxy: owned.use(await startFaultProxy(s3Facts().endpoint)),
        folder: owned.use(await ServerFolder.make(binDir)),
      };
      const tortured = new TorturedArchive(parts, owned, options);
      await using primary = await Cluster.start({
        binDir,
        clientDir: options.clientDir ?? binDir,
        initdb: ['--wal-segsize=1'],
        // What the storage refused for a minute, the standby has when it takes over, however fast the machine writes.
        settings: { wal_keep_size: '16GB' },
      });
      await using standby = await primary.standby();
      await tortured.#run(primary, standby);
      return tortured;
    } catch (error) {
      await owned.disposeAsync();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }

  async #run(primary: Cluster, standby: Cluster): Promise<void> {
    const { rows, benchDir, refusalMs = 0 } = this.#options;
    const bench = benchDir === undefined ? undefined : await Pgbench.start(primary, benchDir);
    let receiver = await this.#receive(primary);
    const load = await NumberedLoad.start(primary);
    await load.more(20);
    await backUpServer(primary, [{ destination: { name: 's3', store: this.store, needsDelete: false } }]);
    const event = (): void => void this.#events.push(load.rows.length);
    event();
    await load.more(rows);
    event();
    receiver.kill('SIGKILL');
    await load.more(rows);
    event();
    receiver = await this.#receive(primary);
    // Amid an upload: the store has a part of it.
    await this.#killAtUpload(receiver);
    await load.more(rows);
    receiver = await this.#receive(primary);
    event();
    const refused = this.#refuse();
    await Promise.all([load.more(rows), setTimeout(refusalMs), refused]);
    this.#proxy.setFaults(() => undefined);
    event();
    await load.more(rows);
    for (const row of await load.stop()) this.rows.push(row);
    event();
    await bench?.stop();
    receiver.kill('SIGKILL');
    await receiver.ended;
    // What was acknowledged before it took over is on its way; the rest of it the standby has.
    await standby.until(`pg_last_wal_replay_lsn() >= '${formatLsn(await flushedLsn(primary))}'`);
    await primary.stop('immediate');
    await standby.promote();
    receiver = await this.#receive(standby);
    const benchAfter = benchDir === undefined ? undefined : Pgbench.goOn(standby, benchDir);
    const after = await NumberedLoad.start(standby);
    await after.more(2 * rows);
    for (const row of await after.stop()) this.rows.push(row);
    await benchAfter?.stop();
    await this.#end(receiver, standby);
  }

  #receive(cluster: Cluster): Promise<ReceiverProcess> {
    const { endpoint } = this.#proxy;
    return startReceiver({
      ...this.#bucket.env,
      S3_ENDPOINT: endpoint,
      DATABASE_URL: cluster.url,
      BACKUP_NAME: 'main',
    });
  }

  async #killAtUpload(receiver: ReceiverProcess): Promise<void> {
    this.#proxy.setFaults(({ operation, url }) => {
      if (operation !== 'PutObject' || !url.pathname.includes('/wal/')) return undefined;
      receiver.kill('SIGKILL');
      return { kind: 'cut-request', afterBytes: 1_000 };
    });
    await receiver.ended;
    this.#proxy.setFaults(() => undefined);
  }

  /** From now on nothing is taken. Resolves when something was refused. */
  #refuse(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#proxy.setFaults(({ operation }) => {
      if (operation !== 'PutObject') return undefined;
      resolve();
      return { kind: 'answer', status: 503, code: 'SlowDown' };
    });
    return promise;
  }

  /** In good order: all that the server has is archived then, also what is in no transaction behind the last row. */
  async #end(receiver: ReceiverProcess, cluster: Cluster): Promise<void> {
    await cluster.sql(`select pg_create_restore_point('idle')`);
    const end = formatLsn(await flushedLsn(cluster));
    await cluster.until(`exists (select from pg_stat_replication where sent_lsn >= '${end}')`);
    receiver.kill('SIGTERM');
    const { exitCode, stderr } = await receiver.ended;
    if (exitCode !== 0) throw new Error(`the receiver ended with ${exitCode}: ${stderr}`);
  }

  /** Random ones of each kind, between any two events as often as between others, however many rows there are; and the end. */
  aims(count: number): readonly Aim[] {
    const aims = Array.from({ length: count - 1 }, (_, index): Aim => {
      const kind = KINDS[index % KINDS.length] ?? 'time';
      const between = random(this.#events.map((from, event) => this.rows.slice(from, this.#events[event + 1])));
      const row = random(
        kind === 'restore-point' ? between.filter((each) => each.restorePoint !== undefined) : between,
      );
      return { name: `${index} ${kind} of ${row.n}`, target: targetOf(kind, row), last: row.n };
    });
    return [...aims, { name: 'end', target: { kind: 'end' }, last: this.rows.at(-1)?.n ?? 0 }];
  }

  /** What is wrong with a recovery to there; undefined if it brings back exactly the rows that were committed by then. */
  async failureAt(
    { name, target, last }: Aim,
    check?: (server: RestoredServer) => Promise<void>,
  ): Promise<string | undefined> {
    const data = this.folder.join(name.replaceAll(' ', '-'));
    try {
      await restoreTo(this.store, data, target, this.#bucket.env);
      const server = await this.folder.start(data);
      const [found] = await server.sql<{ count: number; max: number }>(
        'select count(*)::int as count, coalesce(max(n), 0) as max from numbered',
      );
      if (this.#options.benchDir !== undefined && (await checkSums(server)) === 0) return `${name}: nothing of pgbench`;
      await check?.(server);
      return found?.count === last && found.max === last
        ? undefined
        : `${name}: ${found?.count} rows up to ${found?.max}, not ${last}`;
    } finally {
      await this.folder.stop(data);
      await this.folder.remove(data);
    }
  }

  /** Of all of these, two at a time. */
  async failuresAt(aims: readonly Aim[]): Promise<readonly string[]> {
    const failures: string[] = [];
    const left = aims.values();
    const workers = Array.from({ length: 2 }, async () => {
      for (const aim of left) {
        const failure = await this.failureAt(aim);
        if (failure !== undefined) failures.push(failure);
      }
    });
    await Promise.all(workers);
    return failures;
  }
}

function random<T>(of: readonly T[]): T {
  const one = of[Math.floor(systemRandom.fraction() * of.length)];
  if (one === undefined) throw new Error('there is nothing to choose from');
  return one;
}

function targetOf(kind: (typeof KINDS)[number], { lsn, time, xid, restorePoint }: WrittenRow): Target {
  switch (kind) {
    case 'time':
      return targetAt(new Date(time), Number(time.slice(23, 26)));
    case 'lsn':
      return targetAtLsn(lsn);
    case 'xid':
      return { kind, xid };
    case 'restore-point':
      return { kind, name: restorePoint ?? '' };
    default:
      return kind satisfies never;
  }
}
