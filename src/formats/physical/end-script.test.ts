import { execFile } from 'node:child_process';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../../test/support/temp.ts';
import { bytesOf, byteStringOf } from '../../postgres/toc/byte-string.ts';
import { END_COMMAND, writeEndScript } from './end-script.ts';
import { withRecoverySettings } from './recovery-settings.ts';
import { TargetFolder } from './target-files.ts';

const end = (cwd: string): Promise<unknown> => promisify(execFile)('/bin/sh', ['-c', END_COMMAND], { cwd });

test('the end of a recovery leaves of its settings what holds for the server behind it', async () => {
  await using data = await makeTempDirectory();
  await mkdir(data.join('pg_wal'));
  await writeEndScript(new TargetFolder(data.path, undefined));
  const own = `# Do not edit\nsearch_path = 'gr\xf6\xdfe'\nwork_mem = '8MB'\n`;
  const plan = { lsn: 0x3000028n, inclusive: true, restoreCommand: '/bin/sh it %f %p' };
  const before = withRecoverySettings(
    byteStringOf(Buffer.from(own, 'latin1')),
    { timeline: 7, archive: plan, port: 5433 },
    'by pgark',
  );
  const file = data.join('postgresql.auto.conf');
  // What was set by hand since stays as well, and who may read it.
  await writeFile(file, Buffer.concat([bytesOf(before), Buffer.from(`shared_buffers = '1GB'\n`)]));
  await chmod(file, 0o640);
  await end(data.path);
  expect((await readFile(file)).toString('latin1').split('\n')).toEqual([
    ...own.split('\n').slice(0, 3),
    '# by pgark',
    `recovery_end_command = ''`,
    `restore_command = ''`,
    `archive_cleanup_command = ''`,
    `recovery_min_apply_delay = '0'`,
    `archive_mode = 'off'`,
    `synchronous_standby_names = ''`,
    `primary_conninfo = ''`,
    `primary_slot_name = ''`,
    `max_logical_replication_workers = '0'`,
    `port = '5433'`,
    `shared_buffers = '1GB'`,
    '',
  ]);
  expect((await stat(file)).mode & 0o777).toBe(0o640);
  expect((await readdir(data.path)).sort()).toEqual(['pg_wal', 'postgresql.auto.conf']);
  expect(await readdir(data.join('pg_wal'))).toEqual([]);
});

test('settings that cannot be written anew stay as they are', async () => {
  await using data = await makeTempDirectory();
  await mkdir(data.join('pg_wal'));
  await writeEndScript(new TargetFolder(data.path, undefined));
  await writeFile(data.join('postgresql.auto.conf'), `recovery_target_lsn = '0/1'\n`);
  await mkdir(data.join('postgresql.auto.conf.tmp'));
  await end(data.path).catch(() => undefined);
  expect(await readFile(data.join('postgresql.auto.conf'), 'utf8')).toBe(`recovery_target_lsn = '0/1'\n`);
});
