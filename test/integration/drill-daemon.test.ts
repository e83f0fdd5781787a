import { writeFile } from 'node:fs/promises';
import { expect, test, vi } from 'vitest';
import { expectExit } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { CONFIG, startDaemon } from '../support/daemon.ts';
import { workFolder } from '../support/drills.ts';
import { startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

vi.setConfig({ testTimeout: 300_000 });

const WAIT = { timeout: 200_000, interval: 50 };

test('the daemon drills and verifies by schedule, and tells of a drill that fails, and that it passes again', async () => {
  await using folder = await makeTempDirectory();
  await using work = await workFolder();
  await using hook = await startReceiver([status(200)]);
  await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
  const configure = (assertion: string): Promise<void> =>
    writeFile(
      folder.join('pgark.yaml'),
      `version: 1
storages: { near: { type: file, path: backups } }
notifications: { hook: { type: webhook, url: "${hook.origin}/x", on: [drill_failed, verify_failed, recovery] } }
defaults: { notify: [hook] }
databases:
  shop:
    url: ${JSON.stringify(source.url)}
    jobs: { nightly: { format: directory } }
    verify: { schedule: 3s, sample: 50% }
    drill:
      schedule: 3s
      work_dir: ${work.path}
      max_restore_time: 10m
      assertions: [{ sql: "${assertion}" }]
`,
    );
  await configure('select a = 2 from t');
  expectExit(await runPgark([...CONFIG, 'backup'], { cwd: folder.path }), 0);
  const events = (): readonly { readonly type: string; readonly data: Record<string, unknown> }[] =>
    hook.requests.map(({ body }) => JSON.parse(body) as { type: string; data: Record<string, unknown> });

  await using daemon = startDaemon({}, CONFIG, { cwd: folder.path });
  await daemon.until('drill.failed', { job: 'shop (drill)' });
  await daemon.until('job.succeeded', { job: 'shop (verify)' });
  await vi.waitUntil(() => events().length > 0, WAIT);
  expect(events()).toMatchObject([{ type: 'drill.failed' }]);
  expect(JSON.stringify(events()[0])).toContain('the assertion (select a = 2 from t) does not hold');

  await configure('select a = 1 from t');
  await daemon.kill('SIGHUP');
  await daemon.until('daemon.reloaded');
  await daemon.until('job.succeeded', { job: 'shop (drill)' });
  await vi.waitUntil(() => events().length > 1, WAIT);
  expect(events().map(({ type }) => type)).toEqual(['drill.failed', expect.stringContaining('recover')]);
  await daemon.stop();
  await work.expectEmpty();

  const listing = await pgarkJsonIn<{ storages: { backups: { proofs: Record<string, { passed: boolean }> }[] }[] }>(
    folder.path,
    ['list'],
  );
  expect(listing.storages[0]?.backups[0]?.proofs).toMatchObject({ verify: { passed: true }, drill: { passed: true } });
});

async function pgarkJsonIn<Result>(cwd: string, args: readonly string[]): Promise<Result> {
  const result = await runPgark([...CONFIG, ...args, '--output', 'json'], { cwd });
  expectExit(result, 0);
  return JSON.parse(result.stdout) as Result;
}
