import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { silentLogger } from '../common/log.ts';
import { loadConfig } from '../config/load.ts';
import { planJobs } from './jobs.ts';

test('what a source is configured with and this version does not carry out is warned of, and nothing else', async () => {
  await using folder = await makeTempDirectory();
  const source = {
    url: 'postgres://u:p@db/shop',
    jobs: { nightly: { format: 'plain' } },
    hooks: { before_backup: [{ run: ['true'] }], after_restore: [{ run: ['true'] }] },
    expect: { max_age: '1d', min_size: '1GiB' },
    drill: { schedule: '@weekly' },
    verify: { schedule: '@daily' },
  };
  const config = {
    version: 1,
    server: { listen: '0.0.0.0:8080', auth: { mode: 'password' } },
    storages: { near: { type: 'file', path: 'near' } },
    notifications: { ops: { type: 'slack', url: 'https://hooks.slack.com/services/x' } },
    databases: { shop: source },
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config));
  const loaded = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path });
  const settings: unknown[] = [];
  const logger = {
    ...silentLogger,
    warning: (_event: string, _message: string, fields?: Readonly<Record<string, unknown>>) =>
      void settings.push(fields?.['setting']),
  };
  planJobs(loaded, { sources: [...loaded.databases.values()], prunes: true }, logger);
  expect(settings).toEqual(['notifications.ops', 'server.auth']);
});

async function compressionOf(format: 'plain' | 'directory', env: Readonly<Record<string, string>>): Promise<unknown> {
  const config = await loadConfig({
    env: { DATABASE_URL: 'postgres://app@127.0.0.1:1/shop', BACKUP_STORAGE: 'file:///backups', ...env },
    cwd: '/',
    needs: ['database', 'storage'],
  });
  const sources = [...config.databases.values()];
  const [job] = planJobs(config, { sources, format, prunes: false }, silentLogger);
  return job?.settings.compression;
}

test('a job that is done in another format for once is compressed as that format is, unless it says how', async () => {
  expect(await compressionOf('directory', {})).toEqual({ algorithm: 'zstd', level: 2 });
  expect(await compressionOf('plain', { BACKUP_FORMAT: 'directory' })).toEqual({ algorithm: 'gzip', level: 5 });
  expect(await compressionOf('directory', { BACKUP_COMPRESSION: 'gzip' })).toEqual({ algorithm: 'gzip', level: 5 });
  expect(await compressionOf('directory', { COMPRESSION_LEVEL: '7' })).toEqual({ algorithm: 'gzip', level: 7 });
});

test('incremental backups that are asked for are those of the jobs that make them, else of the physical ones', async () => {
  await using folder = await makeTempDirectory();
  const database = (jobs: object): object => ({ url: 'postgres://u:p@db/shop', jobs });
  const config = {
    version: 1,
    storages: { near: { type: 'file', path: 'near' } },
    databases: {
      both: database({
        full: { format: 'physical' },
        changes: { format: 'physical', incremental: true, full_every: 7 },
      }),
      one: database({ full: { format: 'physical' }, dump: { format: 'plain' } }),
    },
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config));
  const loaded = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path });
  const plan = (incremental: boolean): readonly unknown[] =>
    planJobs(
      loaded,
      { sources: [...loaded.databases.values()], format: 'physical', incremental, prunes: false },
      silentLogger,
    ).map(({ id, settings }) => [id, settings.incremental, settings.fullEvery]);
  expect(plan(true)).toEqual([
    ['both/changes', true, 7],
    ['one/full', true, undefined],
  ]);
  expect(plan(false)).toEqual([
    ['both/full', false, undefined],
    ['both/changes', true, 7],
    ['one/full', false, undefined],
  ]);
});
