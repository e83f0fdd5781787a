import { execFile } from 'node:child_process';
import { appendFile, chmod, chown, mkdir, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type Client, DatabaseError, type QueryResultRow } from 'pg';
import type { Logger } from '../../src/common/log.ts';
import { backup, type BackupDestination, type BackupOutcome, type BackupRequest } from '../../src/operations/backup.ts';
import { type ContextOptions, operationContext } from '../../src/operations/context.ts';
import {
  type DirectoryRestoreOutcome,
  restoreDirectory,
  type DirectoryRestoreRequest,
} from '../../src/operations/restore-directory.ts';
import { findServerAccount } from '../../src/postgres/server/server-programs.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { atFreePort } from './at-free-port.ts';
import type { Cluster } from './cluster.ts';
import { connectAt, sqlAt } from './superuser-session.ts';

const execute = promisify(execFile);

/** cannot_connect_now */
const CANNOT_CONNECT_NOW = '57P03';

export interface PhysicalBackupOptions extends Partial<BackupRequest> {
  readonly logger?: Logger;
  readonly signal?: AbortSignal;
}

/** A physical backup of the server into these places. */
export async function backUpServer(
  cluster: Pick<Cluster, 'connection'>,
  destinations: readonly { readonly destination: BackupDestination }[],
  { logger, signal, ...changes }: PhysicalBackupOptions = {},
): Promise<BackupOutcome> {
  const request: BackupRequest = {
    source: 'main',
    format: 'physical',
    connection: cluster.connection,
    destinations: destinations.map(({ destination }) => destination),
    seal: { compression: { algorithm: 'zstd', level: 1 } },
    nameTemplate: '',
    excludeTableData: [],
    leaseTermMs: 60_000,
    readBack: false,
    dryRun: false,
    ...changes,
  };
  return backup(request, operationContext({ ...(logger && { logger }), ...(signal && { signal }) }));
}

/** The manifest of the first destination that has the backup. */
export function manifestOf(outcome: BackupOutcome): Manifest {
  const [manifest] = outcome.kind === 'committed' ? outcome.destinations.flatMap((each) => each.manifest ?? []) : [];
  if (manifest === undefined) throw new Error('nothing was committed');
  return manifest;
}

/** Restores the newest physical backup into a directory of the server's account. */
export async function restoreServer(
  store: ObjectStore,
  directory: string,
  changes: Partial<DirectoryRestoreRequest> = {},
  options: ContextOptions = {},
): Promise<DirectoryRestoreOutcome> {
  return restoreDirectory(
    {
      store,
      filter: {},
      selector: { kind: 'latest' },
      keys: { identities: [], passphrases: [] },
      directory,
      mappings: [],
      planOnly: false,
      ...changes,
    },
    operationContext(options),
  );
}

/** A folder in which restored servers live; it belongs to the account that runs them. */
export class ServerFolder implements AsyncDisposable {
  readonly path: string;
  readonly #binDir: string;
  readonly #account: Awaited<ReturnType<typeof findServerAccount>>;
  readonly #running = new Set<string>();

  private constructor(folder: string, binDir: string, account: Awaited<ReturnType<typeof findServerAccount>>) {
    this.path = folder;
    this.#binDir = binDir;
    this.#account = account;
  }

  static async make(binDir: string): Promise<ServerFolder> {
    const folder = await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-restored-')));
    const account = await findServerAccount();
    await chmod(folder, 0o755);
    if (account !== undefined) await chown(folder, account.uid, account.gid);
    return new ServerFolder(folder, binDir, account);
  }

  join(...parts: string[]): string {
    return path.join(this.path, ...parts);
  }

  /** A folder of the servers' account. */
  async makeFolder(name: string): Promise<void> {
    await mkdir(name, { mode: 0o700 });
    if (this.#account !== undefined) await chown(name, this.#account.uid, this.#account.gid);
  }

  /** A program of PostgreSQL, as the account of the servers. */
  async run(program: string, args: readonly string[], programs = this.#binDir): Promise<string> {
    const env = { PATH: `${programs}:/usr/bin:/bin`, LC_ALL: 'C', TZ: 'UTC', PGPASSWORD: 'unused' };
    const { stdout, stderr } = await execute(path.join(programs, program), [...args], {
      cwd: this.path,
      env,
      ...this.#account,
    });
    return stdout + stderr;
  }

  /** Starts a server on a restored data directory and waits until it is a primary. */
  async start(data: string): Promise<RestoredServer> {
    const logOf = (port: number): string => path.join(this.path, `${port}.log`);
    const start = async (port: number): Promise<void> => {
      const settings = [
        `port = ${port}`,
        `unix_socket_directories = '${this.path}'`,
        `listen_addresses = '127.0.0.1'`,
        'fsync = off',
      ];
      await appendFile(path.join(data, 'postgresql.auto.conf'), `${settings.join('\n')}\n`);
      await this.run('pg_ctl', ['-D', data, '-w', '-t', '240', '-l', logOf(port), 'start']);
    };
    const port = await atFreePort(start, (tried) => readFile(logOf(tried), 'utf8'));
    this.#running.add(data);
    const server = new RestoredServer(port);
    // pg_ctl is content with a server that still recovers, and lets nobody in.
    while (!(await server.isPrimary())) await setTimeout(50);
    return server;
  }

  async stop(data: string): Promise<void> {
    if (this.#running.delete(data)) await this.run('pg_ctl', ['-D', data, '-w', '-m', 'immediate', 'stop']);
  }

  /** A server that somebody else has started; it ends with this. */
  adopt(data: string, port: number): RestoredServer {
    this.#running.add(data);
    return new RestoredServer(port);
  }

  /** A data directory whose server does not run. */
  async remove(data: string): Promise<void> {
    await rm(data, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const data of this.#running) await this.stop(data).catch(() => undefined);
    await rm(this.path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  }
}

export class RestoredServer {
  readonly port: number;

  constructor(port: number) {
    this.port = port;
  }

  async sql<Row extends QueryResultRow = QueryResultRow>(text: string, database = 'postgres'): Promise<Row[]> {
    return sqlAt<Row>(this.port, text, database);
  }

  /** False while it recovers. */
  async isPrimary(): Promise<boolean> {
    try {
      return (await this.value('select pg_is_in_recovery()')) === 'false';
    } catch (error) {
      if (error instanceof DatabaseError && error.code === CANNOT_CONNECT_NOW) return false;
      throw error;
    }
  }

  /** Of a query of one row and one column. */
  async value(text: string, database = 'postgres'): Promise<string> {
    const [row] = await this.sql(text, database);
    return String(Object.values(row ?? {})[0]);
  }
}

/** Writes numbered rows, one transaction each, until it is told to stop. */
export class Load {
  readonly #client: Client;
  readonly #work: Promise<void>;
  readonly #waiting: { readonly n: number; readonly resolve: () => void }[] = [];
  #goesOn = true;

  private constructor(client: Client) {
    this.#client = client;
    this.#work = this.#write().catch(() => undefined);
  }

  static async start(cluster: Cluster): Promise<Load> {
    return new Load(await connectAt(cluster.port));
  }

  /** Resolves when that row is committed. */
  async reached(n: number): Promise<void> {
    await new Promise<void>((resolve) => void this.#waiting.push({ n, resolve }));
  }

  async stop(): Promise<void> {
    this.#goesOn = false;
    await this.#work;
    await this.#client.end().catch(() => undefined);
  }

  async #write(): Promise<void> {
    let n = 0;
    while (this.#goesOn) {
      n += 1;
      await this.#client.query(`insert into load values (${n}, repeat(md5('${n}'), 40))`);
      for (const each of this.#waiting) if (each.n <= n) each.resolve();
    }
  }
}
