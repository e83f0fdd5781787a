import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { type RunOptions, type RunResult, runPgark } from './cli.ts';
import { postgresFacts } from './facts.ts';
import { openDatabase, type TestDatabase } from './postgres.ts';
import { createBucket, type TestBucket } from './s3.ts';
import { expectNoSecretsIn } from './secrets.ts';
import { makeTempDirectory } from './temp.ts';

/** Where backups of a test go: its settings, and a look inside. */
export interface Storage extends AsyncDisposable {
  readonly env: Readonly<Record<string, string>>;
  /** All keys below the storage's root; of a directory, all files. */
  keys(): Promise<string[]>;
  get(key: string): Promise<Buffer>;
  openUploads(): Promise<string[]>;
}

/** A bucket of its own, whose backups lie below no prefix. Failed requests are tried again at once. */
export async function s3Storage(): Promise<Storage & { readonly bucket: TestBucket }> {
  const bucket = await createBucket();
  return {
    bucket,
    env: { ...bucket.env, BACKUP_PREFIX: '/', RETRY_DELAY: '10ms' },
    keys: () => bucket.listKeys(),
    get: (key) => bucket.get(key),
    openUploads: () => bucket.listOpenUploads(),
    [Symbol.asyncDispose]: () => bucket[Symbol.asyncDispose](),
  };
}

export async function fileStorage(root?: string): Promise<Storage & { readonly path: string }> {
  const directory = await makeTempDirectory();
  const place = root ?? directory.path;
  const look = { keys: () => filesBelow(place), get: (key: string) => readFile(path.join(place, key)) };
  return {
    path: place,
    env: { BACKUP_STORAGE: `file://${place}` },
    ...look,
    openUploads: async () => [],
    async [Symbol.asyncDispose]() {
      await expectNoSecretsIn(look);
      await directory[Symbol.asyncDispose]();
    },
  };
}

async function filesBelow(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => path.relative(root, path.join(entry.parentPath, entry.name))).sort();
}

/** The URL of a database, through another port or as another role. */
export function urlOf(name: string, change: { port?: number; user?: string; password?: string; host?: string } = {}) {
  const facts = { ...postgresFacts(), ...change };
  const login = `${encodeURIComponent(facts.user)}:${encodeURIComponent(facts.password)}`;
  return `postgresql://${login}@${facts.host}:${facts.port}/${encodeURIComponent(name)}`;
}

/** For a run that is going to die: others need not wait long, and it lives through the hiccups of a busy machine. */
export const SHORT_LEASE = { BACKUP_LEASE_TERM: '8s' };

/** SQL of a table whose dump has about so many MiB of text that gzip does not make much smaller than half. */
export function filler(mebibytes: number, table = 'filler'): string {
  // 32 rows of 32 KiB, each of 1,024 digests.
  return `CREATE TABLE ${table} AS SELECT n, (SELECT string_agg(md5((n * 1024 + m)::text), '') FROM generate_series(1, 1024) m) AS text
    FROM generate_series(1, ${mebibytes * 32}) n;`;
}

/** A command under way. */
export interface Started {
  readonly pid: Promise<number>;
  kill(signal: NodeJS.Signals): Promise<void>;
  readonly result: Promise<RunResult>;
}

export function startPgark(args: readonly string[], options: RunOptions): Started {
  const started = Promise.withResolvers<{ readonly pid: number; kill(signal: NodeJS.Signals): void }>();
  const result = runPgark(args, { ...options, onStarted: started.resolve });
  return {
    pid: started.promise.then(({ pid }) => pid),
    kill: async (signal) => {
      const program = await started.promise;
      program.kill(signal);
    },
    result,
  };
}

/** Compares together with what the command said, which tells most where it is not as expected. */
export function expectExit({ exitCode, signal, stderr }: RunResult, code: number): void {
  expect(`exit ${exitCode ?? signal}\n${stderr}`).toMatch(new RegExp(`^exit ${code}\n`));
}

/** The command has to succeed; its JSON. */
export async function pgarkJson<Result>(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Result> {
  const result = await runPgark([...args, '--output', 'json'], { env });
  expectExit(result, 0);
  return JSON.parse(result.stdout) as Result;
}

/** The command has to succeed. */
export async function succeed(args: readonly string[], env: Readonly<Record<string, string>>): Promise<RunResult> {
  const result = await runPgark(args, { env });
  expectExit(result, 0);
  expect(result.stderr).not.toMatch(/^error|^.{24} ERROR/m);
  return result;
}

/** One error in three parts, once, without a stack: what failed and why, what to do; and the documented exit status. */
export function expectFailure(
  result: RunResult,
  expected: { readonly exit: number; readonly message: RegExp; readonly hint: RegExp },
): void {
  const { stderr } = result;
  expectExit(result, expected.exit);
  expect(result.stdout).toBe('');
  const errors = [...stderr.matchAll(/^error {2}(.*(?:\n(?! {2}hint ).*)*)\n {2}hint (.*)$/gm)];
  expect(errors.length).toBe(1);
  expect(errors[0]?.[1]).toMatch(expected.message);
  expect(errors[0]?.[2]).toMatch(expected.hint);
  expect(stderr).not.toMatch(/^\s+at .*\(?.*:\d+:\d+\)?$/m);
  expect(stderr).not.toMatch(/invariant|undefined|\[object/);
}

/**
 * Keys that a run may leave behind: what is no backup and no part of one. A file store that is killed, or stopped, while it
 * writes a record or log leaves its beginning, and in the instant in which it reads its clock an empty file.
 */
const BOOKKEEPING =
  /^(\.pgark-uploads\/)?\.pgark\/(repository\.json$|leases\/|runs\/|logs\/|proofs\/|schedule\/)|^\.pgark-uploads\/\.pgark-clock-/;

/** What is kept of a server beside its databases, also where the backup of a database fails. */
const GLOBALS = /^\.pgark\/globals\/|\/globals\/\d{8}T\d{6}Z-g[a-z2-7]{6}\./;

/** Every key but for bookkeeping and globals: manifests, intents, data, and what is not pgark's. */
export async function substance(storage: Storage): Promise<string[]> {
  const keys = await storage.keys();
  return keys.filter((key) => !BOOKKEEPING.test(key) && !GLOBALS.test(key));
}

/** Nothing but what was there before the failed run, and nothing half-done. */
export async function expectUntouched(storage: Storage, before: readonly string[]): Promise<void> {
  expect(await substance(storage)).toEqual(before);
  expect(await storage.openUploads()).toEqual([]);
}

/** The newest backup of the storage, loaded into a new database, holds the same rows as the one it was made of. */
export async function expectRestores(
  database: TestDatabase,
  storage: Storage,
  options: {
    readonly backup?: string;
    readonly tables?: readonly string[];
    readonly env?: Record<string, string>;
  } = {},
): Promise<void> {
  const name = `restored ${createHash('sha1').update(database.name).digest('hex').slice(0, 8)} ${Date.now()}`;
  await using restored = openDatabase(name);
  const env = { ...storage.env, DATABASE_URL: database.url, ...options.env };
  await succeed(['restore', options.backup ?? 'latest', '--to-db', name], env);
  for (const table of options.tables ?? ['filler']) {
    expect(await fingerprint(restored, table)).toEqual(await fingerprint(database, table));
  }
}

async function fingerprint(database: TestDatabase, table: string): Promise<unknown> {
  return database.query(`SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY t::text)) FROM ${table} t`);
}

/** Runs the command again and again while it exits with one of `waiting`, until it exits with `code`. */
export async function untilExit(
  code: number,
  waiting: readonly number[],
  run: () => Promise<RunResult>,
): Promise<RunResult> {
  for (;;) {
    const result = await run();
    if (result.exitCode === null || !waiting.includes(result.exitCode)) {
      expectExit(result, code);
      return result;
    }
    await delay(300);
  }
}

/** The backend of a run's pg_dump, once it is there and does what the condition says. */
export async function untilActivity(database: TestDatabase, condition: string): Promise<number> {
  for (;;) {
    const rows = await database.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND ${condition}`,
    );
    const [row] = rows;
    if (row !== undefined) return row.pid;
    await delay(10);
  }
}
