import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectExit } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 10000) AS n' });
});
afterAll(() => database[Symbol.asyncDispose]());

/** Writes a configuration of one directory, and runs pgark with it. */
async function configured(
  folder: string,
  settings: { readonly maxSize?: string; readonly hook?: string; readonly retention?: string },
): Promise<(...args: readonly string[]) => Promise<RunResult>> {
  const { maxSize, hook, retention } = settings;
  const config = {
    version: 1,
    storages: { near: { type: 'file', path: 'near', ...(maxSize === undefined ? {} : { max_size: maxSize }) } },
    retention: { two: { keep: { last: 2 }, min_backups: 2 } },
    databases: {
      shop: {
        url: database.url,
        globals: 'none',
        jobs: { plain: { format: 'plain', ...(retention === undefined ? {} : { retention }) } },
      },
    },
    ...(hook === undefined
      ? {}
      : {
          notifications: { hook: { type: 'webhook', url: hook, on: ['failure', 'recovery'] } },
          defaults: { notify: ['hook'] },
        }),
  };
  await writeFile(path.join(folder, 'pgark.yaml'), JSON.stringify(config));
  return (...args) => runPgark([...args, '--config', 'pgark.yaml'], { cwd: folder });
}

async function filesIn(run: (...args: readonly string[]) => Promise<RunResult>): Promise<number> {
  const { stdout } = await run('list', '--output', 'json');
  const { storages } = JSON.parse(stdout) as { readonly storages: readonly { readonly backups: readonly unknown[] }[] };
  return storages[0]?.backups.length ?? 0;
}

describe('a storage with a max_size', () => {
  test('is warned of when it holds more, and is backed up to all the same; nothing is deleted for it', async () => {
    await using folder = await makeTempDirectory();
    const run = await configured(folder.path, { maxSize: '20KiB' });
    for (let count = 1; count <= 3; count += 1) {
      const result = await run('backup');
      expectExit(result, 0);
      expect(result.stderr).not.toContain('is not carried out');
      if (count === 3)
        expect(result.stderr).toMatch(
          /WARNING storage near: it holds \S+ KiB of pgark’s own, .* more than its max_size of 20\.0 KiB; backups go on/,
        );
    }
    expect(await filesIn(run)).toBe(3);
    expect((await run('storage', 'usage')).stdout).toMatch(/^pgark’s own: .* of max_size, 20\.0 KiB: more than/m);
    const usage = JSON.parse((await run('storage', 'usage', '--output', 'json')).stdout) as unknown;
    expect(usage).toMatchObject({ storages: [{ max_bytes: 20_480 }] });
  });

  test('is not warned of below it, nor for what is not pgark’s', async () => {
    await using folder = await makeTempDirectory();
    const run = await configured(folder.path, { maxSize: '1MiB' });
    expectExit(await run('backup'), 0);
    await writeFile(folder.join('near', 'film.mp4'), Buffer.alloc(2 ** 21));
    expect((await run('backup')).stderr).not.toContain('max_size');
  });

  test('is measured after the prune of the backup', async () => {
    await using folder = await makeTempDirectory();
    const free = await configured(folder.path, {});
    for (let count = 0; count < 3; count += 1) expectExit(await free('backup'), 0);
    const usage = JSON.parse((await free('storage', 'usage', '--output', 'json')).stdout) as {
      readonly storages: readonly { readonly own: { readonly bytes: number } }[];
    };
    const run = await configured(folder.path, {
      maxSize: `${Math.ceil((usage.storages[0]?.own.bytes ?? 0) / 1024)}KiB`,
      retention: 'two',
    });
    // Of four two are left: what is new is more than the records of the runs.
    const result = await run('backup');
    expectExit(result, 0);
    expect(result.stderr).not.toContain('max_size');
    expect(await filesIn(run)).toBe(2);
  });

  test('is told of once, and again when it holds less', async () => {
    await using folder = await makeTempDirectory();
    await using hook = await startReceiver([status(200)]);
    const told = (): unknown[] =>
      hook.requests.map(({ body }) => (JSON.parse(body) as { readonly data: unknown }).data);
    const over = await configured(folder.path, { maxSize: '1KiB', hook: hook.origin });
    expectExit(await over('backup'), 0);
    expectExit(await over('backup'), 0);
    const about = { source: 'shop', storage: 'near' };
    const problem = { event: 'storage_size', ...about, error: { code: 'storage-size' } };
    expect(told()).toMatchObject([problem]);
    const below = await configured(folder.path, { maxSize: '1GiB', hook: hook.origin });
    expectExit(await below('backup'), 0);
    expect(told()).toMatchObject([problem, { event: 'recovery', of: 'storage_size', ...about }]);
  });
});
