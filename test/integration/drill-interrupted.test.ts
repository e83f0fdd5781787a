import { readdir, readFile, readlink } from 'node:fs/promises';
import path from 'node:path';
import { expect, test, vi } from 'vitest';
import { type Started, startPgark, succeed, expectExit, fileStorage } from '../support/backups.ts';
import { workFolder } from '../support/drills.ts';
import { createDatabase } from '../support/postgres.ts';

vi.setConfig({ testTimeout: 300_000 });

const WAIT = { timeout: 200_000, interval: 50 };
/** Sleeps for as long as an assertion may take. */
const ASLEEP = ['--assert', 'select pg_sleep(500) is null'];

/** The server of the drill that was started, once it is ready: its process, and its folder. */
async function serverIn(folder: string): Promise<{ readonly pid: number; readonly path: string }> {
  const find = async (): Promise<{ readonly pid: number; readonly path: string } | undefined> => {
    for (const name of await readdir(folder)) {
      const pidFile = path.join(folder, name, 'data', 'postmaster.pid');
      const lines = (await readFile(pidFile, 'utf8').catch(() => '')).split('\n');
      if (lines[7]?.trim() === 'ready') return { pid: Number(lines[0]), path: path.join(folder, name) };
    }
    return undefined;
  };
  return vi.waitUntil(find, WAIT);
}

/** Those that would tidy up behind a process that was killed. */
async function killReapers(folder: string): Promise<number> {
  let killed = 0;
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (!command.includes('pgark-reaper') || !command.includes(folder)) continue;
    process.kill(Number(pid), 'SIGKILL');
    killed += 1;
  }
  return killed;
}

async function isGone(pid: number): Promise<boolean> {
  return readlink(`/proc/${pid}/cwd`).then(
    () => false,
    () => true,
  );
}

test('what runs is left alone by other drills, ends with a signal, and what was killed with all that tidies up goes with the next', async () => {
  await using storage = await fileStorage();
  await using work = await workFolder();
  await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
  const env = { ...storage.env, DATABASE_URL: source.url };
  const args = ['drill', '--work-dir', work.path];
  await succeed(['backup', '--format', 'directory'], env);

  const interrupted: Started = startPgark([...args, ...ASLEEP], { env });
  const first = await serverIn(work.path);
  await succeed(args, env);
  expect((await readdir(work.path)).map((name) => path.join(work.path, name))).toEqual([first.path]);
  expect(await isGone(first.pid)).toBe(false);
  await interrupted.kill('SIGTERM');
  expectExit(await interrupted.result, 130);
  await work.expectEmpty();

  const killed = startPgark([...args, ...ASLEEP], { env });
  const second = await serverIn(work.path);
  expect(await killReapers(second.path)).toBe(1);
  await killed.kill('SIGKILL');
  await killed.result;
  expect(await isGone(second.pid)).toBe(false);
  const { stderr } = await succeed(args, env);
  expect(stderr).toContain(`removing ${second.path}, which a drill that was killed has left`);
  await work.expectEmpty();
  await vi.waitUntil(() => isGone(second.pid), WAIT);
});
