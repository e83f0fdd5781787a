import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Client } from 'pg';
import { startThrowawayServer, type ThrowawayServer } from '../src/postgres/server/throwaway-server.ts';
import { createMixedDatabase } from './mixed-database.ts';
import { type Sink, startSink } from './stores.ts';

export const DATABASE = 'bench';
/** About what a store at the other end of a continent is like. */
export const DISTANCE = { latencyMs: 40, bytesPerSecond: 50_000_000 };

/** Where everybody competes: a server with one database, stores, and a folder on the disk. */
export interface Place extends AsyncDisposable {
  readonly server: ThrowawayServer;
  readonly serverPid: number;
  readonly major: number;
  readonly database: string;
  readonly databaseBytes: number;
  /** Those with rows, as SQL has them. */
  readonly tables: readonly string[];
  readonly folder: string;
  /** The database as SQL, uncompressed, and its length. */
  readonly dumpFile: string;
  readonly dumpBytes: number;
  readonly sinks: { readonly near: Sink; readonly distant: Sink; readonly keeping: Sink };
  readonly storePids: readonly number[];
  dropDatabase(name: string): Promise<void>;
}

export interface PlaceOptions {
  /** About the length of the database as SQL. */
  readonly dumpBytes: number;
  readonly serverSettings: Readonly<Record<string, string>>;
  /** Folder of the server's and the client's programs. Default: those of the newest version installed. */
  readonly binDir: string | undefined;
}

export async function makePlace({ dumpBytes, serverSettings, binDir }: PlaceOptions): Promise<Place> {
  await using made = new AsyncDisposableStack();
  const filled = made.use(await startFilledServer({ dumpBytes, serverSettings, binDir }));
  const { server, admin } = filled;
  const folder = await mkdtemp(path.join(tmpdir(), 'pgark-bench-'));
  made.defer(() => rm(folder, { recursive: true, force: true }));
  const dumpFile = path.join(folder, 'dump.sql');
  await dump(server, dumpFile);
  const sinks = {
    near: made.use(await startSink()),
    distant: made.use(await startSink({ distance: DISTANCE })),
    keeping: made.use(await startSink({ keep: true })),
  };
  const everything = made.move();
  return {
    server,
    serverPid: filled.pid,
    major: filled.major,
    database: DATABASE,
    databaseBytes: filled.databaseBytes,
    tables: filled.tables,
    folder,
    dumpFile,
    dumpBytes: (await stat(dumpFile)).size,
    sinks,
    storePids: Object.values(sinks).map(({ pid }) => pid),
    async dropDatabase(name) {
      await admin.query(`DROP DATABASE ${name}`);
      await admin.query('CHECKPOINT');
    },
    [Symbol.asyncDispose]: () => everything.disposeAsync(),
  };
}

/** A server with the one database, all of which is on the disk. */
export interface FilledServer extends AsyncDisposable {
  readonly server: ThrowawayServer;
  readonly pid: number;
  readonly major: number;
  readonly dataDirectory: string;
  readonly databaseBytes: number;
  /** Those with rows, as SQL has them. */
  readonly tables: readonly string[];
  /** In another database than that one. */
  readonly admin: Client;
}

export async function startFilledServer({ dumpBytes, serverSettings, binDir }: PlaceOptions): Promise<FilledServer> {
  await using made = new AsyncDisposableStack();
  const server = made.use(
    await startThrowawayServer({
      settings: { shared_buffers: '256MB', autovacuum: 'off', ...serverSettings },
      ...(binDir === undefined ? {} : { binDir }),
    }),
  );
  const admin = new Client({ connectionString: server.url().reveal() });
  await admin.connect();
  made.defer(() => admin.end());
  await admin.query(`CREATE DATABASE ${DATABASE}`);
  const { tables, databaseBytes } = await fill(server, dumpBytes);
  await admin.query('CHECKPOINT');
  const { rows } = await admin.query<{ version: number; pid: string; data: string }>(
    `SELECT current_setting('server_version_num')::int AS version, current_setting('data_directory') AS data,
            split_part(pg_read_file('postmaster.pid'), E'\\n', 1) AS pid`,
  );
  const everything = made.move();
  return {
    server,
    pid: Number(rows[0]?.pid),
    major: Math.floor(Number(rows[0]?.version) / 10_000),
    dataDirectory: rows[0]?.data ?? '',
    databaseBytes,
    tables,
    admin,
    [Symbol.asyncDispose]: () => everything.disposeAsync(),
  };
}

/** Makes the database's tables and rows, and looks at them once. */
async function fill(
  server: ThrowawayServer,
  dumpBytes: number,
): Promise<{ readonly tables: readonly string[]; readonly databaseBytes: number }> {
  const client = new Client({ connectionString: server.url(DATABASE).reveal() });
  await client.connect();
  try {
    const tables = await createMixedDatabase(client, dumpBytes);
    await client.query('VACUUM ANALYZE');
    const { rows } = await client.query<{ bytes: string }>('SELECT pg_database_size(current_database()) AS bytes');
    return { tables, databaseBytes: Number(rows[0]?.bytes) };
  } finally {
    await client.end();
  }
}

/** Reads the whole database once, so that no contender is the first. */
async function dump(server: ThrowawayServer, file: string): Promise<void> {
  const env = { ...process.env, ...connectionOf(server, DATABASE) };
  const child = spawn(path.join(server.binDir, 'pg_dump'), [`--file=${file}`], { env, stdio: 'inherit' });
  const [status] = (await once(child, 'exit')) as [number | null];
  if (status !== 0) throw new Error(`pg_dump ended with ${status}`);
}

/** What tells PostgreSQL's own programs where to connect to. */
export function connectionOf(server: ThrowawayServer, database: string): Readonly<Record<string, string>> {
  return {
    PGHOST: server.host,
    PGPORT: String(server.port),
    PGUSER: server.user,
    PGPASSWORD: server.password.reveal(),
    PGDATABASE: database,
  };
}
