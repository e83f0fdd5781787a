import { chmod, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { errorTable } from '../../src/common/error-table.ts';
import { expectExit, filler, pgarkJson, s3Storage, urlOf } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { createDatabase, runAsSuperuser } from '../support/postgres.ts';
import { futureDatabase } from '../support/restoring.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

vi.setConfig({ testTimeout: 300_000 });

type Hooks = Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>;

/** Writes down what a hook is told; `also` says more. */
const notes = (file: string, also = 'true'): readonly string[] => [
  'sh',
  '-c',
  `{ env | grep ^PGARK_; ${also}; } > ${file}`,
];
const BOTH: Hooks = { before_restore: [{ run: notes('before') }], after_restore: [{ run: notes('after') }] };

interface Settings {
  readonly format?: string;
  readonly name?: string;
  readonly near?: Readonly<Record<string, unknown>>;
}

const NEAR = { type: 'file', path: 'near' };

/** A folder with a storage and a configuration of one source, which has hooks. */
class Place {
  readonly folder: TempDirectory;

  constructor(folder: TempDirectory) {
    this.folder = folder;
  }

  static async open(url: string, hooks: Hooks, said: Settings = {}): Promise<Place> {
    const place = new Place(await makeTempDirectory());
    await place.configure(url, hooks, said);
    return place;
  }

  async configure(
    url: string,
    hooks: Hooks,
    { format = 'plain', name = 'shop', near = NEAR }: Settings = {},
  ): Promise<void> {
    const config = {
      version: 1,
      storages: { near },
      databases: { [name]: { url, jobs: { nightly: { format } }, globals: 'none', hooks } },
    };
    await writeFile(this.folder.join('pgark.yaml'), JSON.stringify(config));
  }

  /** Hooks begin in the directory of the process. */
  run(...args: readonly string[]): Promise<RunResult> {
    return runPgark([...args, '--config', 'pgark.yaml'], { cwd: this.folder.path, ownProcess: true, env: {} });
  }

  /** A backup; its id. */
  async backup(): Promise<string> {
    const result = await this.run('backup', '-o', 'json');
    expectExit(result, 0);
    const { results } = JSON.parse(result.stdout) as { results: { backup: { id: string } }[] };
    return results[0]?.backup.id ?? '';
  }

  async told(file: string): Promise<Record<string, string>> {
    const lines = (await readFile(this.folder.join(file), 'utf8')).trim().split('\n');
    return Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
  }

  /** Which of the hooks were called. */
  async called(): Promise<readonly string[]> {
    const tried = ['before', 'after'].map(async (file) =>
      (await this.told(file).catch(() => undefined)) ? [file] : [],
    );
    return (await Promise.all(tried)).flat();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.folder[Symbol.asyncDispose]();
  }
}

async function isThere(database: string): Promise<boolean> {
  return (await runAsSuperuser('SELECT FROM pg_database WHERE datname = $1', [database])).length > 0;
}

describe.concurrent('the hooks around a restore', () => {
  test('are called right before the target is touched and after it, and are told of both, and of no secret', async () => {
    await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using restored = futureDatabase();
    const list = `psql '${urlOf('postgres')}' -Atc "select 'DATABASES=' || count(*) from pg_database where datname like '${restored.name}%'"`;
    const hooks = { ...BOTH, before_restore: [{ run: notes('before', list) }] };
    await using place = await Place.open(database.url, hooks);
    const id = await place.backup();
    const plan = await place.run('restore', 'latest', '--to-db', restored.name, '--plan');
    expectExit(plan, 0);
    expect(await place.called()).toEqual([]);
    expectExit(await place.run('restore', 'latest', '--to-db', restored.name), 0);
    const about = {
      PGARK_SOURCE: 'shop',
      PGARK_DATABASE: database.name,
      PGARK_STORAGES: 'near',
      PGARK_BACKUP_ID: id,
      PGARK_RUN_ID: expect.stringMatching(/^\w{26}$/) as unknown,
      PGARK_TARGET: 'database',
      PGARK_TARGET_DATABASE: restored.name,
      PGARK_TARGET_HOST: expect.any(String) as unknown,
      PGARK_TARGET_PORT: expect.stringMatching(/^\d+$/) as unknown,
    };
    expect(await place.told('before')).toEqual({ ...about, PGARK_HOOK: 'before_restore', DATABASES: '0' });
    expect(await place.told('after')).toEqual({ ...about, PGARK_HOOK: 'after_restore', PGARK_RESULT: 'succeeded' });
    expect(await isThere(restored.name)).toBe(true);
  });

  test('stop it before anything is touched where one before it fails, and are told so', async () => {
    await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using restored = futureDatabase();
    const hooks = { ...BOTH, before_restore: [{ run: ['sh', '-c', 'echo somebody still writes >&2; exit 3'] }] };
    await using place = await Place.open(database.url, hooks);
    await place.backup();
    const result = await place.run('restore', 'latest', '--to-db', restored.name);
    expectExit(result, errorTable['hook-failed'].exit);
    expect(result.stderr).toContain('somebody still writes');
    expect(await isThere(restored.name)).toBe(false);
    expect(await place.told('after')).toMatchObject({ PGARK_RESULT: 'failed', PGARK_ERROR_CODE: 'hook-failed' });
    await rm(place.folder.join('after'));
    const args = ['runs', '--state', 'failed', '--config', place.folder.join('pgark.yaml')];
    const { runs } = await pgarkJson<{ runs: readonly { kind: string }[] }>(args, {});
    expect(runs).toMatchObject([{ kind: 'restore', storages: [{ error: { code: 'hook-failed' } }] }]);

    // A machine that has none of these programs restores all the same.
    expectExit(await place.run('restore', 'latest', '--to-db', restored.name, '--no-hooks'), 0);
    expect(await isThere(restored.name)).toBe(true);
    expect(await place.called()).toEqual([]);
  });

  test('do not stop it where their failure is a warning, nor where one fails after it', async () => {
    await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using restored = futureDatabase();
    const fails = { run: ['sh', '-c', 'exit 3'] };
    await using place = await Place.open(database.url, {
      before_restore: [{ ...fails, on_error: 'warn' }],
      after_restore: [fails],
    });
    await place.backup();
    const { stderr, ...result } = await place.run('restore', 'latest', '--to-db', restored.name);
    expectExit({ stderr, ...result }, 0);
    expect(stderr).toMatch(/WARNING the hook before_restore \(sh\) exited with 3/);
    expect(stderr).toMatch(/ERROR the hook after_restore \(sh\) exited with 3; the restore is not touched by that/);
    expect(await isThere(restored.name)).toBe(true);
  });

  test('are told of a restore that failed, once it had begun', async () => {
    await using database = await createDatabase({ sql: filler(3) });
    await using restored = futureDatabase();
    await using place = await Place.open(database.url, BOTH);
    await place.backup();
    // It has the length that it should have, and breaks off when it is read.
    const near = place.folder.join('near');
    const file = (await readdir(near)).find((name) => name.endsWith('.sql.gz')) ?? '';
    const data = path.join(near, file);
    const bytes = await readFile(data);
    const middle = Math.floor(bytes.length / 2);
    bytes.fill(0xff, middle, middle + 100);
    await writeFile(data, bytes);
    const refused = await place.run('restore', 'latest', '--to-db', restored.name);
    expectExit(refused, errorTable.corrupt.exit);
    expect(await place.called()).toEqual([]);
    const result = await place.run('restore', 'latest', '--to-db', restored.name, '--no-verify-first');
    expectExit(result, errorTable.corrupt.exit);
    expect(await place.told('after')).toMatchObject({ PGARK_RESULT: 'failed', PGARK_ERROR_CODE: 'corrupt' });
    expect(await isThere(restored.name)).toBe(false);
  });

  test('are those of the backup’s source; a dump of another tool is of the source on whose server it is loaded', async () => {
    await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using restored = futureDatabase();
    await using foreign = futureDatabase();
    await using place = await Place.open(database.url, BOTH);
    const id = await place.backup();
    await place.configure(database.url, BOTH, { name: 'other' });
    expectExit(await place.run('restore', id, '--to-db', restored.name), 0);
    expect(await place.called()).toEqual([]);
    await writeFile(place.folder.join('near', 'old.sql'), 'create table old (n int);\n');
    expectExit(await place.run('restore', 'old.sql', '--to-url', urlOf(foreign.name)), 0);
    expect(await place.called()).toEqual([]);
    await using second = futureDatabase();
    expectExit(await place.run('restore', 'old.sql', '--to-db', second.name), 0);
    expect(await place.told('after')).toMatchObject({ PGARK_SOURCE: 'other', PGARK_TARGET_DATABASE: second.name });
    expect(await place.told('after')).not.toHaveProperty('PGARK_BACKUP_ID');
  });

  test('are called for a directory too, and for a database out of a base backup, but for no drill', async () => {
    await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
    const url = `postgres://postgres@127.0.0.1:${cluster.port}/postgres?sslmode=disable`;
    // What the server fetches WAL by reads the configuration as the account of the server.
    await using storage = await s3Storage();
    await using place = await Place.open(url, BOTH, { format: 'physical', near: storage.bucket.inFile() });
    await chmod(place.folder.path, 0o755);
    const id = await place.backup();
    const directory = place.folder.join('restored');
    expectExit(await place.run('restore', 'latest', '--to-dir', directory), 0);
    const about = { PGARK_SOURCE: 'shop', PGARK_BACKUP_ID: id, PGARK_STORAGES: 'near' };
    const intoDirectory = { ...about, PGARK_TARGET: 'directory', PGARK_TARGET_DIRECTORY: directory };
    expect(await place.told('before')).toMatchObject(intoDirectory);
    expect(await place.told('after')).toMatchObject({ ...intoDirectory, PGARK_RESULT: 'succeeded' });

    await writeFile(place.folder.join('before'), '');
    expectExit(await place.run('restore', 'latest', '--database', 'postgres', '--to-db', 'copy'), 0);
    const intoDatabase = { ...about, PGARK_TARGET: 'database', PGARK_TARGET_DATABASE: 'copy' };
    expect(await place.told('before')).toMatchObject({ ...intoDatabase, PGARK_DATABASE: 'postgres' });
    expect(await place.told('after')).toMatchObject({ ...intoDatabase, PGARK_RESULT: 'succeeded' });

    for (const file of ['before', 'after']) await writeFile(place.folder.join(file), '');
    expectExit(await place.run('drill', 'shop'), 0);
    for (const file of ['before', 'after']) expect(await readFile(place.folder.join(file), 'utf8')).toBe('');
  });
});
