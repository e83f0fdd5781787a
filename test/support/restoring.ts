import { randomBytes } from 'node:crypto';
import type { Client } from 'pg';
import { expect } from 'vitest';
import { type RunOptions, type RunResult, runPgark, runProgram } from './cli.ts';
import { openDatabase, runAsSuperuser, type TestDatabase } from './postgres.ts';
import type { TestStorage } from './storage.ts';

/** A database that a restore is to make; `await using` drops it if it did. */
export function futureDatabase(name = 'restored'): TestDatabase {
  return openDatabase(`${name} ${randomBytes(5).toString('hex')}`);
}

type Settings = Readonly<Record<string, string>>;

/** pgark with a database and a storage told by the environment. */
export function pgark(
  place: { readonly database?: TestDatabase; readonly storage: TestStorage; readonly env?: Settings },
  args: readonly string[],
  options: Omit<RunOptions, 'env'> = {},
): Promise<RunResult> {
  const env = {
    ...(place.database === undefined ? {} : { DATABASE_URL: place.database.url }),
    ...place.storage.env,
    ...place.env,
  };
  return runPgark(args, { ...options, env });
}

export interface MadeBackup {
  readonly id: string;
  readonly key: string;
  readonly manifestKey: string;
  readonly startedAt: Date;
}

/** Makes a backup and says what it is called. */
export async function makeBackup(place: {
  readonly database: TestDatabase;
  readonly storage: TestStorage;
  readonly env?: Settings;
}): Promise<MadeBackup> {
  const before = new Set(await place.storage.keys());
  const result = await pgark(place, ['backup']);
  expect(result).toMatchObject({ exitCode: 0 });
  const manifestKey = (await place.storage.keys()).find((key) => key.startsWith('.pgark/backups/') && !before.has(key));
  expect(manifestKey).toBeDefined();
  const manifest = JSON.parse((await place.storage.get(manifestKey ?? '')).toString()) as {
    id: string;
    startedAt: string;
    objects: { key: string }[];
  };
  return {
    id: manifest.id,
    key: manifest.objects[0]?.key ?? '',
    manifestKey: manifestKey ?? '',
    startedAt: new Date(manifest.startedAt),
  };
}

/** The SQL text of a database by pg_dump, without what differs from run to run. Bytes as latin1, whatever the encoding. */
export async function dumpOf(database: TestDatabase): Promise<string> {
  const result = await runProgram(
    'sh',
    ['-c', 'pg_dump --no-password | sed "s/^.\\(un\\)\\{0,1\\}restrict .*//" | iconv -f latin1 -t utf8'],
    {
      env: database.env,
    },
  );
  expect(result).toMatchObject({ exitCode: 0, stderr: '' });
  expect(result.stdout).toContain('PostgreSQL database dump complete');
  return result.stdout;
}

export async function connected<T>(database: TestDatabase, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await database.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export async function databaseNames(like: string): Promise<string[]> {
  const rows = await runAsSuperuser<{ name: string }>(
    'SELECT datname AS name FROM pg_database WHERE strpos(datname, $1) > 0 ORDER BY 1',
    [like],
  );
  return rows.map((row) => row.name);
}

/** A name that begins like no other, for `keptOf`. */
export function uniqueName(): string {
  return `t${randomBytes(8).toString('hex')}`;
}

/** The old database that a restore in place keeps, of one whose name begins like no other. */
export async function keptOf(database: TestDatabase): Promise<TestDatabase & { readonly exists: boolean }> {
  const [name] = await databaseNames(database.name.slice(0, 10)).then((names) =>
    names.filter((each) => each.includes('_before_')),
  );
  return { ...openDatabase(name ?? ''), exists: name !== undefined };
}

/** Message and hint that pgark ended with. */
export function said(result: RunResult): string {
  return result.stderr.replaceAll(/\s+/g, ' ');
}
