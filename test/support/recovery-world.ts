import type { Client } from 'pg';
import { fetchProgramOf } from '../../src/cli/fetch-program.ts';
import type {
  DirectoryRestoreOutcome,
  DirectoryRestoreRequest,
  RecoveryRequest,
} from '../../src/operations/restore-directory.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import type { Cluster } from './cluster.ts';
import { restoreServer } from './physical.ts';
import { connectAt } from './superuser-session.ts';
import { flushedLsn, type Receiving } from './wal-receiving.ts';

/** A row of a load: what a recovery can be aimed by so that it brings back this one, and none behind it. */
export interface WrittenRow {
  readonly n: number;
  readonly xid: number;
  /** The end of the log, and the server's clock, between this commit and the next. */
  readonly lsn: string;
  readonly time: string;
  readonly restorePoint: string | undefined;
}

const POINT_EVERY = 10;

/** Writes numbered rows of about a kilobyte, one transaction each, without pause or with one, until it is told to stop. */
export class NumberedLoad {
  readonly rows: WrittenRow[] = [];
  readonly #client: Client;
  readonly #first: number;
  readonly #pauseSeconds: number;
  readonly #work: Promise<void>;
  readonly #waiting: { readonly n: number; readonly resolve: () => void }[] = [];
  #goesOn = true;

  private constructor(client: Client, first: number, pauseMs: number) {
    this.#client = client;
    this.#first = first;
    this.#pauseSeconds = pauseMs / 1_000;
    this.#work = this.#write();
  }

  /** Goes on behind the rows that are there. */
  static async start(cluster: Pick<Cluster, 'port'>, { pauseMs = 0 } = {}): Promise<NumberedLoad> {
    const client = await connectAt(cluster.port);
    await client.query('create table if not exists numbered (n int primary key, t text)');
    const { rows } = await client.query<{ max: number }>('select coalesce(max(n), 0) as max from numbered');
    return new NumberedLoad(client, (rows[0]?.max ?? 0) + 1, pauseMs);
  }

  /** Resolves when so many rows more are committed. */
  async more(count: number): Promise<void> {
    const n = (this.rows.at(-1)?.n ?? this.#first - 1) + count;
    const reached = new Promise<void>((resolve) => void this.#waiting.push({ n, resolve }));
    const ended = this.#work.then(() => {
      throw new Error(`the load has ended before row ${n}`);
    });
    await Promise.race([reached, ended]);
  }

  async stop(): Promise<readonly WrittenRow[]> {
    this.#goesOn = false;
    await this.#work;
    await this.#client.end();
    return this.rows;
  }

  /** The rows whose commits were acknowledged, once the server is gone. */
  async untilBroken(): Promise<readonly WrittenRow[]> {
    await this.#work.then(
      () => {
        throw new Error('the server is still there');
      },
      () => undefined,
    );
    await this.#client.end().catch(() => undefined);
    return this.rows;
  }

  async #write(): Promise<void> {
    let n = this.#first - 1;
    while (this.#goesOn) {
      n += 1;
      const inserted = await this.#client.query<{ xid: string }>(
        `insert into numbered values (${n}, (select string_agg(md5(random()::text), '') from generate_series(1, 30)))
         returning pg_current_xact_id()::text as xid`,
      );
      const restorePoint = n % POINT_EVERY === 0 ? `after ${n}` : undefined;
      if (restorePoint !== undefined) await this.#client.query('select pg_create_restore_point($1)', [restorePoint]);
      const after = await this.#client.query<{ lsn: string; time: string }>(
        `select pg_current_wal_insert_lsn()::text as lsn,
           to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time`,
      );
      const [{ lsn, time } = { lsn: '', time: '' }] = after.rows;
      this.rows.push({ n, xid: Number(inserted.rows[0]?.xid), lsn, time, restorePoint });
      for (const each of this.#waiting) if (each.n <= n) each.resolve();
      if (this.#pauseSeconds > 0) await this.#client.query(`select pg_sleep(${this.#pauseSeconds})`);
    }
  }
}

type Changes = Partial<RecoveryRequest> & Pick<Partial<DirectoryRestoreRequest>, 'planOnly' | 'start' | 'port'>;

/** `environment`: by which `pgark wal fetch` finds the storage. */
export function restoreTo(
  store: ObjectStore,
  directory: string,
  target: RecoveryRequest['target'],
  environment: Readonly<Record<string, string>>,
  { planOnly = false, start, port, ...changes }: Changes = {},
): Promise<DirectoryRestoreOutcome> {
  const recovery = { target, fetch: fetchFrom(environment), ...changes };
  return restoreServer(store, directory, { recovery, planOnly, start, port });
}

/** As a command line in this environment would fetch WAL. */
export function fetchFrom(environment: Readonly<Record<string, string>>): RecoveryRequest['fetch'] {
  const world = { cwd: '/', environment: { PATH: process.env['PATH'], ...environment } };
  return fetchProgramOf({ options: {}, world }, {});
}

/** Rows in the archive of a server, and how many of them were there when its backup had ended. */
export interface ArchivedLoad {
  readonly rows: readonly WrittenRow[];
  readonly rowsBefore: number;
}

/** Writes some rows, backs the server up, writes more of them behind the backup, and waits until all is archived. */
export async function archiveLoad(
  cluster: Cluster,
  receiving: Receiving,
  { backUp, more }: { readonly backUp: () => Promise<unknown>; readonly more: number },
): Promise<ArchivedLoad> {
  const load = await NumberedLoad.start(cluster);
  await load.more(20);
  await backUp();
  const rowsBefore = load.rows.length;
  await load.more(more);
  const rows = await load.stop();
  // What comes behind the last transaction tells that the log went on without one.
  await cluster.sql(`select pg_create_restore_point('idle')`);
  await receiving.archives(await flushedLsn(cluster));
  await receiving.stop();
  return { rows, rowsBefore };
}
