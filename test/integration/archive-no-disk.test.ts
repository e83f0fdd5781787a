import { expect, test } from 'vitest';
import { filler, s3Storage } from '../support/backups.ts';
import { pgarkPath, type RunResult, runProgram } from '../support/cli.ts';
import { createDatabase } from '../support/postgres.ts';
import { futureDatabase } from '../support/restoring.ts';
import { makeTempDirectory } from '../support/temp.ts';

const DATA_MIB = 16;
const ROOM_MIB = 8;

/** A program for which nothing can be written to but a folder for temporary files, and into that little. */
async function runWithoutDisk(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<RunResult> {
  await using folder = await makeTempDirectory();
  const script = `
    mount -t tmpfs -o size=${ROOM_MIB}m,mode=0700 tmpfs "$TMPDIR"
    while read -r _ place _; do
      [ "$place" = "$TMPDIR" ] || mount -o remount,bind,ro "$place" 2>/dev/null || :
    done < /proc/self/mounts
    cd /
    exec "$0" "$@"`;
  return await runProgram('unshare', ['--mount', '--propagation', 'private', 'sh', '-euc', script, program, ...args], {
    env: { ...env, TMPDIR: folder.path },
  });
}

test('there is nowhere to write to, and little room in the folder for temporary files', async () => {
  const places = ['/', '/tmp', '/dev/shm', process.cwd()].map((folder) => `${folder}/pgark-test-${process.pid}`);
  for (const place of places) {
    const written = await runWithoutDisk('sh', ['-c', `: > '${place}'`]);
    expect({ place, ...written }).toMatchObject({ exitCode: expect.not.toBeOneOf([0]), stderr: /read-only/i });
  }
  expect(await runWithoutDisk('sh', ['-c', ': > "$TMPDIR/file"'])).toMatchObject({ exitCode: 0 });
  expect(await runWithoutDisk('sh', ['-c', `head -c ${DATA_MIB}M /dev/zero > "$TMPDIR/file"`])).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining('No space left'),
  });
});

test('an archive that is larger is made and restored there', async () => {
  await using storage = await s3Storage();
  await using source = await createDatabase({ sql: filler(DATA_MIB) });
  await using restored = futureDatabase();
  const env = {
    ...storage.env,
    DATABASE_URL: source.url,
    BACKUP_FORMAT: 'directory',
    BACKUP_COMPRESSION: 'none',
    BACKUP_JOBS: '2',
  };
  expect(await runWithoutDisk(pgarkPath, ['backup'], env)).toMatchObject({ exitCode: 0 });
  const restore = ['restore', 'latest', '--to-db', restored.name, '--jobs', '2'];
  expect(await runWithoutDisk(pgarkPath, restore, env)).toMatchObject({ exitCode: 0 });
  const digest = 'SELECT count(*), sum(hashtextextended(filler::text, 0)::numeric) FROM filler';
  expect(await restored.query(digest)).toEqual(await source.query(digest));
});
