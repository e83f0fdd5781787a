import { chmod, chown, mkdir, readdir, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { seedBackups } from '../support/seed.ts';
import { pgarkPath, runProgram, type RunResult } from '../support/cli.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';

/** nobody, who is not let into what is root's. */
const OTHER = 65_534;

/** A storage directory of an unprivileged user's, in which some folders are root's. */
describe('a storage directory in which a folder may not be read', () => {
  let folder: TempDirectory;
  let backup = '';

  const pgark = (...args: string[]): Promise<RunResult> =>
    runProgram('setpriv', [`--reuid=${OTHER}`, `--regid=${OTHER}`, '--clear-groups', pgarkPath, ...args], {
      cwd: '/',
      env: {
        HOME: '/nonexistent',
        DATABASE_URL: 'postgres://u@127.0.0.1:1/shop',
        BACKUP_STORAGE: `file://${folder.join('storage')}`,
      },
    });
  const lock = async (path: string): Promise<void> => {
    await chown(folder.join('storage', path), 0, 0);
    await chmod(folder.join('storage', path), 0o700);
  };
  const unlock = (path: string): Promise<void> => chown(folder.join('storage', path), OTHER, OTHER);

  beforeAll(async () => {
    folder = await makeTempDirectory();
    await chmod(folder.path, 0o755);
    const root = folder.join('storage');
    await mkdir(root);
    const store = new FileStore({ root, clock: systemClock, random: systemRandom });
    const times = [new Date('2026-11-20T02:00:00Z')];
    const [made] = await seedBackups(store, { source: 'shop', database: 'shop', times, withData: true });
    backup = made?.id ?? '';
    await mkdir(folder.join('storage', 'theirs'));
    for (const name of ['theirs/a.sql', 'theirs/b.sql', 'old.sql']) await writeFile(folder.join('storage', name), 'x');
    for (const path of ['', ...(await readdir(root, { recursive: true }))]) await unlock(path);
    // As mkfs makes it.
    await mkdir(folder.join('storage', 'lost+found'), { mode: 0o700 });
  });
  afterAll(() => folder[Symbol.asyncDispose]());

  test('lost+found of a file system is no part of it', async () => {
    const listed = await pgark('list');
    expect(listed).toMatchObject({ exitCode: 0, stderr: '' });
    expect(listed.stdout).toContain('theirs/a.sql');
    expect(listed.stdout).not.toContain('lost+found');
    expect(await pgark('show', 'lost+found/x.sql')).toMatchObject({ exitCode: 10 });
  });

  test('a folder and a file of others are left out, and named', async () => {
    await lock('theirs');
    await lock('old.sql');
    try {
      const listed = await pgark('list');
      expect(listed).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(backup) });
      for (const path of ['old.sql', 'theirs/']) expect(listed.stderr).toContain(path);
      const mistyped = await pgark('show', 'sohp_2026-11-20.sql.gz');
      expect(mistyped).toMatchObject({ exitCode: 10, stderr: expect.stringContaining('theirs/') });
      // The newest of what can be seen need not be the newest there is.
      const latest = await pgark('restore', 'latest', '--foreign', '--to-db', 'x', '--plan');
      expect(latest).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('theirs') });
    } finally {
      await unlock('theirs');
      await unlock('old.sql');
    }
  });

  test.each(['.pgark', '.pgark/backups/shop', '.pgark/repository.json'])('%s is not left out', async (path) => {
    await lock(path);
    try {
      const listed = await pgark('list');
      expect(listed).toMatchObject({ exitCode: 3, stdout: '' });
      expect(listed.stderr).toContain(path);
    } finally {
      await unlock(path);
    }
  });
});
