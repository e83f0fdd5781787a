import { execFile } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { Client, escapeIdentifier, type QueryResultRow } from 'pg';
import { findPrograms, type InstalledProgram, knowsRestrict } from '../../src/postgres/client/programs.ts';
import { startThrowawayServer, type ThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';

/** Folders of programs, one or two for each major version of PostgreSQL: with `postgres`, with `pg_dump`, or with both. */
const VARIABLE = 'PG_MATRIX_DIRS';

/** The programs of one client version. */
export interface MatrixClient {
  readonly major: number;
  readonly binDir: string;
  readonly version: string;
  /** Whether its psql may load dumps: one without `\restrict` may not. */
  readonly loads: boolean;
}

export interface MatrixFolders {
  /** Folder of the server programs by major version, ascending. */
  readonly servers: ReadonlyMap<number, string>;
  /** By major version, ascending. */
  readonly clients: ReadonlyMap<number, MatrixClient>;
}

/** Folders of the servers that PG_MATRIX_DIRS names, by major version, ascending. */
export async function readServerFolders(): Promise<ReadonlyMap<number, string>> {
  const servers = new Map<number, string>();
  for (const binDir of namedFolders()) {
    const major = await serverMajor(binDir);
    if (major !== undefined && !servers.has(major)) servers.set(major, binDir);
  }
  return sorted(servers);
}

function namedFolders(): readonly string[] {
  return (process.env[VARIABLE] ?? '').split(path.delimiter).filter((folder) => folder !== '');
}

/** What PG_MATRIX_DIRS names. Throws if that is no server at all, or no client that fits them. */
export async function readMatrixFolders(): Promise<MatrixFolders> {
  const servers = new Map<number, string>();
  const clients = new Map<number, MatrixClient>();
  for (const binDir of namedFolders()) {
    const server = await serverMajor(binDir);
    if (server !== undefined && !servers.has(server)) servers.set(server, binDir);
    const [pgDump, psql] = await Promise.all([inFolder('pg_dump', binDir), inFolder('psql', binDir)]);
    if (pgDump !== undefined && psql !== undefined && !clients.has(pgDump.major)) {
      clients.set(pgDump.major, {
        major: pgDump.major,
        binDir,
        version: pgDump.version,
        loads: knowsRestrict(psql),
      });
    }
    if (server === undefined && pgDump === undefined)
      throw new Error(`${VARIABLE}: ${binDir} holds no PostgreSQL programs`);
  }
  const newestServer = Math.max(0, ...servers.keys());
  if (![...clients.values()].some((client) => client.major >= newestServer && client.loads) || newestServer === 0) {
    throw new Error(
      `${VARIABLE} has to name folders of PostgreSQL servers (initdb, postgres) and of a client as new as the newest of them (pg_dump, psql, pg_restore), separated by "${path.delimiter}"`,
    );
  }
  return { servers: sorted(servers), clients: sorted(clients) };
}

function sorted<T>(map: ReadonlyMap<number, T>): ReadonlyMap<number, T> {
  return new Map([...map].sort(([a], [b]) => a - b));
}

async function inFolder(program: 'pg_dump' | 'psql', binDir: string): Promise<InstalledProgram | undefined> {
  const [found] = await findPrograms(program, { PGARK_CLIENT_DIR: binDir });
  return found;
}

async function serverMajor(binDir: string): Promise<number | undefined> {
  const program = path.join(binDir, 'postgres');
  try {
    await access(program, constants.X_OK);
  } catch {
    return undefined;
  }
  const { stdout } = await promisify(execFile)(program, ['--version']);
  return Number(/\(PostgreSQL\) (\d+)/.exec(stdout)?.[1]);
}

/** A running server of the matrix. */
export interface MatrixServer extends AsyncDisposable {
  readonly major: number;
  /** As PostgreSQL writes it: 18.6. */
  readonly version: string;
  url(database: string): string;
  environment(database: string): Readonly<Record<string, string>>;
  query<Row extends QueryResultRow = QueryResultRow>(sql: string, database?: string): Promise<Row[]>;
  /** The caller ends it. */
  connect(database: string): Promise<Client>;
  withClient<T>(database: string, work: (client: Client) => Promise<T>): Promise<T>;
  createDatabase(name: string, options?: string): Promise<void>;
}

export async function startMatrixServer(major: number, binDir: string): Promise<MatrixServer> {
  const server: ThrowawayServer = await startThrowawayServer({
    binDir,
    listen: 'tcp',
    settings: { shared_buffers: '32MB', jit: 'off', wal_level: 'logical', max_wal_size: '2GB' },
  });
  const connect: MatrixServer['connect'] = async (database) => {
    const client = new Client({ connectionString: server.url(database).reveal() });
    client.on('error', () => {});
    await client.connect();
    return client;
  };
  const withClient: MatrixServer['withClient'] = async (database, work) => {
    const client = await connect(database);
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  };
  const query: MatrixServer['query'] = <Row extends QueryResultRow>(sql: string, database = 'postgres') =>
    withClient(database, async (client) => (await client.query<Row>(sql)).rows);
  const [row] = await query<{ version: string }>(
    `SELECT split_part(current_setting('server_version'), ' ', 1) AS version`,
  );
  return {
    major,
    version: row?.version ?? String(major),
    url: (database) => server.url(database).reveal(),
    environment: (database) => ({
      PGHOST: server.host,
      PGPORT: String(server.port),
      PGUSER: server.user,
      PGPASSWORD: server.password.reveal(),
      PGDATABASE: database,
    }),
    query,
    connect,
    withClient,
    async createDatabase(name, options = '') {
      await query(`CREATE DATABASE ${escapeIdentifier(name)} TEMPLATE template0 ${options}`);
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
}
