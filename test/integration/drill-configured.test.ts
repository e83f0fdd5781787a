import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { keys } from '../../src/repository/keys.ts';
import { expectExit, expectFailure, fileStorage } from '../support/backups.ts';
import { runPgark, type RunResult } from '../support/cli.ts';
import { CONFIG, startDaemon } from '../support/daemon.ts';
import { workFolder } from '../support/drills.ts';
import { startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

vi.setConfig({ testTimeout: 300_000 });

test('all drills that are configured run once when asked; a database that cannot be tried keeps no other one waiting, and hides no failure', async () => {
  await using folder = await makeTempDirectory();
  await using storage = await fileStorage();
  await using work = await workFolder();
  await using future = await createDatabase({ name: 'future', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
  await using present = await createDatabase({ name: 'present', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
  const pgark = async (url: string, args: readonly string[], assertion = 'select a = 1 from t'): Promise<RunResult> => {
    const settings = {
      version: 1,
      storages: { near: { type: 'file', path: storage.path } },
      databases: {
        shop: {
          url,
          jobs: { nightly: { format: 'directory' } },
          verify: { schedule: '@daily' },
          drill: { schedule: '@weekly', work_dir: work.path, assertions: [{ sql: assertion }] },
        },
      },
    };
    await writeFile(folder.join('pgark.yaml'), JSON.stringify(settings));
    return runPgark([...CONFIG, ...args], { cwd: folder.path, env: { LOG_FORMAT: 'text' } });
  };
  expectExit(await pgark(future.url, ['backup']), 0);
  // By its manifest of a version of which no server is installed.
  const manifests = (await storage.keys()).filter((key) => key.startsWith(keys.manifestsPrefix));
  for (const key of manifests) {
    const manifest = JSON.parse((await storage.get(key)).toString()) as { readonly server: object };
    const server = { ...manifest.server, versionNum: 990_001 };
    await writeFile(join(storage.path, key), JSON.stringify({ ...manifest, server }));
  }
  const proofs = async (kind: string): Promise<readonly string[]> =>
    (await storage.keys()).filter((key) => key.includes('/proofs/') && key.includes('present') && key.endsWith(kind));
  expectExit(await pgark(present.url, ['once']), 0);
  expect(await proofs('.json')).toEqual([]);
  // Of two that were never drilled chance takes one first, and is content where that passes; then it is the other one's turn.
  await pgark(present.url, ['once', '--prove']);
  expect(await proofs('.drill.json')).toHaveLength(1);
  const failed = await pgark(present.url, ['once', '--prove']);
  expectExit(failed, 1);
  expect(failed.stderr).toMatch(/^error {2}no server of PostgreSQL 99 is installed here/m);
  expect(await proofs('.drill.json')).toHaveLength(2);
  expect((await proofs('.json')).length).toBeGreaterThan(2);
  const wrong = await pgark(present.url, ['once', '--prove'], 'select a = 2 from t');
  expectExit(wrong, 20);
  expect(wrong.stderr).toMatch(/^error {2}the assertion \(select a = 2 from t\) does not hold/m);
  await work.expectEmpty();
});

test('the daemon finds a damaged backup by its drill, and tells of it', async () => {
  await using folder = await makeTempDirectory();
  await using storage = await fileStorage();
  await using work = await workFolder();
  await using hook = await startReceiver([status(200)]);
  await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
  const settings = {
    version: 1,
    storages: { near: { type: 'file', path: storage.path } },
    notifications: { hook: { type: 'webhook', url: `${hook.origin}/x`, on: ['drill_failed'] } },
    defaults: { notify: ['hook'] },
    databases: {
      shop: {
        url: source.url,
        jobs: { nightly: { format: 'plain' } },
        drill: { schedule: '3s', work_dir: work.path },
      },
    },
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(settings));
  const pgark = (args: readonly string[]): Promise<RunResult> => runPgark([...CONFIG, ...args], { cwd: folder.path });
  expectExit(await pgark(['backup']), 0);
  const [dump = ''] = (await storage.keys()).filter((key) => key.includes('.sql') && !key.includes('globals'));
  const bytes = await readFile(join(storage.path, dump));
  const middle = Math.floor(bytes.length / 2);
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  await writeFile(join(storage.path, dump), bytes);

  await using daemon = startDaemon({}, CONFIG, { cwd: folder.path });
  await daemon.until('drill.failed', { job: 'shop (drill)' });
  await vi.waitUntil(() => hook.requests.length > 0, { timeout: 200_000, interval: 50 });
  await daemon.stop();
  expect(JSON.parse(hook.requests[0]?.body ?? '')).toMatchObject({ type: 'drill.failed' });
  expect(hook.requests[0]?.body).toContain(dump);

  const listed = await pgark(['runs', '--output', 'json']);
  const { runs } = JSON.parse(listed.stdout) as { readonly runs: readonly Record<string, unknown>[] };
  const drills = runs.filter(({ kind }) => kind === 'drill');
  expect(drills.at(0)).toMatchObject({ state: 'failed', storages: [{ error: { code: 'corrupt' } }] });
  // Whoever mistypes a name is told, and nobody else.
  const toldTimes = hook.requests.length;
  expectFailure(await pgark(['drill', 'shop', 'nosuch']), { exit: 10, message: /nosuch/, hint: /pgark list/ });
  expect(hook.requests).toHaveLength(toldTimes);
  expectFailure(await pgark(['drill']), { exit: 20, message: /./, hint: /./ });
  await work.expectEmpty();
});
