import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { errorTable } from '../../src/common/error-table.ts';
import { expectExit, fileStorage, type Storage, substance } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

/** Writes down what it is told, and how many backups there are at that moment. */
const NOTES = (file: string): readonly string[] => [
  'sh',
  '-c',
  `{ env | grep ^PGARK_; echo BACKUPS=$(find near/.pgark/backups -type f 2>/dev/null | wc -l); } > ${file}`,
];

interface Result {
  readonly state: string;
  readonly error?: { readonly code: string };
  readonly backup?: { readonly run_id: string };
}

/** Runs the only job of a configuration with these hooks. */
async function once(
  folder: TempDirectory,
  database: TestDatabase,
  hooks: Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>>,
  patterns?: readonly string[],
): Promise<RunResult & { readonly results: readonly Result[] }> {
  const config = {
    version: 1,
    storages: { near: { type: 'file', path: 'near' } },
    retention: { short: { keep: { last: 3 } } },
    databases: {
      shop: {
        url: database.url,
        databases: patterns,
        jobs: { nightly: { format: 'plain', retention: 'short' } },
        hooks,
      },
    },
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config));
  // Hooks begin in the directory of the process.
  const result = await runPgark(['once', '--config', 'pgark.yaml', '-o', 'json'], {
    cwd: folder.path,
    ownProcess: true,
  });
  // One that is interrupted prints none.
  const { results = [] } = JSON.parse(result.stdout || '{}') as Partial<Awaited<ReturnType<typeof once>>>;
  return { ...result, results };
}

async function notes(folder: TempDirectory, file: string): Promise<Record<string, string>> {
  const lines = (await readFile(folder.join(file), 'utf8')).trim().split('\n');
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

async function stage(): Promise<{ folder: TempDirectory; storage: Storage } & AsyncDisposable> {
  const folder = await makeTempDirectory();
  const storage = await fileStorage(folder.join('near'));
  return {
    folder,
    storage,
    async [Symbol.asyncDispose]() {
      await storage[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describe.concurrent('the hooks of a job', () => {
  test('are called before its backup and after it, and are told of both', async () => {
    await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using place = await stage();
    const { folder } = place;
    const result = await once(folder, database, {
      before_backup: [{ run: NOTES('before') }],
      after_backup: [{ run: NOTES('after') }],
    });
    expectExit(result, 0);
    const told = { PGARK_SOURCE: 'shop', PGARK_DATABASE: database.name, PGARK_JOB: 'nightly', PGARK_STORAGES: 'near' };
    expect(await notes(folder, 'before')).toEqual({ ...told, PGARK_HOOK: 'before_backup', BACKUPS: '0' });
    expect(await notes(folder, 'after')).toMatchObject({
      ...told,
      PGARK_HOOK: 'after_backup',
      PGARK_RESULT: 'succeeded',
      PGARK_BACKUP_ID: expect.stringMatching(/^\d{8}T\d{6}Z-p\w{6}$/),
      // The run of the backup, not of the prune that followed it.
      PGARK_RUN_ID: result.results[0]?.backup?.run_id,
      PGARK_DATABASES: database.name,
      BACKUPS: '1',
    });
  });

  test('prevent the backup where one before it fails, and nothing is written', async () => {
    await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using place = await stage();
    const { folder, storage } = place;
    const result = await once(folder, database, {
      before_backup: [{ run: ['sh', '-c', 'echo the shop is closed >&2; exit 3'] }, { run: NOTES('next') }],
    });
    expectExit(result, errorTable['hook-failed'].exit);
    expect(result.results).toMatchObject([{ state: 'failed', error: { code: 'hook-failed' } }]);
    expect(result.stderr).toContain('the shop is closed');
    expect(await substance(storage).catch(() => [])).toEqual([]);
    await expect(notes(folder, 'next')).rejects.toThrow('ENOENT');
  });

  test('are called after it although one before it fails: what another one has paused goes on', async () => {
    await using database = await createDatabase();
    await using place = await stage();
    const { folder } = place;
    const result = await once(folder, database, {
      before_backup: [{ run: ['touch', 'paused'] }, { run: ['false'] }],
      after_backup: [{ run: ['rm', 'paused'] }, { run: NOTES('after') }],
    });
    expectExit(result, errorTable['hook-failed'].exit);
    await expect(readFile(folder.join('paused'))).rejects.toThrow('ENOENT');
    expect(await notes(folder, 'after')).toMatchObject({
      PGARK_RESULT: 'failed',
      PGARK_ERROR_CODE: 'hook-failed',
      BACKUPS: '0',
    });
  });

  test('are called after it although it is interrupted while one before it runs', async () => {
    await using database = await createDatabase();
    await using place = await stage();
    const { folder } = place;
    const interrupted = await once(folder, database, {
      before_backup: [{ run: ['sh', '-c', 'touch paused; kill -TERM $PPID; sleep 60'] }],
      after_backup: [{ run: ['rm', 'paused'] }, { run: NOTES('after') }],
    });
    expectExit(interrupted, errorTable.interrupted.exit);
    await expect(readFile(folder.join('paused'))).rejects.toThrow('ENOENT');
    expect(await notes(folder, 'after')).toMatchObject({ PGARK_RESULT: 'interrupted' });
  });

  test('do not prevent it where their failure is to be a warning', async () => {
    await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using place = await stage();
    const result = await once(place.folder, database, {
      before_backup: [{ run: ['sh', '-c', 'exit 3'], on_error: 'warn' }],
    });
    expectExit(result, 0);
    expect(result.results).toMatchObject([{ state: 'committed' }]);
    expect((await substance(place.storage)).filter((key) => key.startsWith('.pgark/backups/'))).toHaveLength(1);
  });

  test('are told which databases of a source with patterns have a new backup, and not of the one that is asked', async () => {
    await using asked = await createDatabase();
    await using one = await createDatabase({ name: 'crm', sql: 'create table t as select 1 as n' });
    await using two = await createDatabase({ name: 'shop', sql: 'create table t as select 2 as n' });
    await using place = await stage();
    const { folder } = place;
    const patterns = [one.name, 'missing', two.name];
    const list = ['sh', '-c', 'echo "$PGARK_DATABASES" > databases'];
    const hooks = {
      before_backup: [{ run: NOTES('before') }],
      after_backup: [{ run: NOTES('after') }, { run: list }],
    };
    expectExit(await once(folder, asked, hooks, patterns), errorTable.partial.exit);
    const told = { PGARK_SOURCE: 'shop', PGARK_JOB: 'nightly', PGARK_STORAGES: 'near' };
    expect(await notes(folder, 'before')).toEqual({ ...told, PGARK_HOOK: 'before_backup', BACKUPS: '0' });
    const after = await notes(folder, 'after');
    expect(after).toMatchObject({ ...told, PGARK_DATABASES: one.name, PGARK_RESULT: 'partial', BACKUPS: '2' });
    expect(await readFile(folder.join('databases'), 'utf8')).toBe(`${one.name}\n${two.name}\n`);
    for (const name of ['PGARK_DATABASE', 'PGARK_BACKUP_ID', 'PGARK_RUN_ID']) expect(after).not.toHaveProperty(name);
  });

  test('are told of a backup that failed', async () => {
    await using database = await createDatabase();
    await using place = await stage();
    const { folder } = place;
    await database.drop();
    expectExit(await once(folder, database, { after_backup: [{ run: NOTES('after') }] }), 1);
    expect(await notes(folder, 'after')).toMatchObject({
      PGARK_RESULT: 'failed',
      PGARK_ERROR_CODE: 'postgres-database-missing',
      PGARK_ERROR: expect.stringContaining('has no database'),
    });
  });
});
