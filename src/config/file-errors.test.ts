import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from './load.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgark-config-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function failure(yaml: string): Promise<unknown> {
  await writeFile(join(dir, 'pgark.yaml'), yaml);
  return loadConfig({ file: 'pgark.yaml', env: {}, cwd: dir }).catch((reason: unknown) => reason);
}

const small = `version: 1
storages:
  local: { type: file, path: backups }
databases:
  shop:
    url: postgres://app@db/shop
    jobs: { nightly: { schedule: "@daily" } }
`;

describe('a configuration file that is wrong', () => {
  test.each<[string, string, string, string]>([
    [
      'an unknown key',
      small.replace('path:', 'paht:'),
      '3:24: storages.local.paht: unknown key "paht"; did you mean "path"?',
      'config-missing',
    ],
    [
      'an unknown section',
      `${small}storage: {}\n`,
      '8:1: storage: unknown key "storage"; did you mean "storages"?',
      'config-invalid',
    ],
    [
      'an unknown storage',
      small.replace('{ schedule', '{ to: [lokal], schedule'),
      '7:29: databases.shop.jobs.nightly.to.0: "lokal" is not defined under storages; did you mean "local"?',
      'config-invalid',
    ],
    [
      'an unknown retention',
      small.replace('{ schedule', '{ retention: gfs, schedule'),
      '7:24: databases.shop.jobs.nightly.retention: "gfs" is not defined under retention',
      'config-invalid',
    ],
    [
      'an unknown kind',
      small.replace('type: file', 'type: flie'),
      '3:12: storages.local.type: must be one of file, s3, rclone; did you mean "file"?',
      'storage-config-invalid',
    ],
    ['a missing key', small.replace(', path: backups', ''), '3:3: storages.local.path: is required', 'config-missing'],
    ['a key that is here twice', `${small}version: 1\n`, '8:1: this key is here twice', 'config-invalid'],
    ['another version', small.replace('version: 1', 'version: 2'), '1:1: version: must be 1', 'config-invalid'],
    ['no version', small.replace('version: 1', ''), 'pgark.yaml: version: is required', 'config-missing'],
    [
      'a duration without a unit',
      small.replace('{ schedule', '{ jitter: 10, schedule'),
      'jitter: must be a duration with a unit',
      'config-invalid',
    ],
    [
      'a wrong schedule',
      small.replace('@daily', '99 * * * *'),
      '7:24: databases.shop.jobs.nightly.schedule: "99 * * * *" is no cron expression',
      'cron-invalid',
    ],
    [
      'a number where a text belongs',
      small.replace('path: backups', 'path: 12'),
      '3:24: storages.local.path: must be a text, not a number; put it in quotes',
      'storage-config-invalid',
    ],
    [
      'a list where a map belongs',
      'version: 1\nstorages: []\ndatabases: {}\n',
      '2:1: storages: must be a map, not a list',
      'storage-config-invalid',
    ],
    [
      'a variable that is not set',
      small.replace('path: backups', 'path: "${NOWHERE}"'),
      '3:24: storages.local.path: needs the environment variable NOWHERE',
      'config-missing',
    ],
    [
      'a broken reference',
      small.replace('path: backups', 'path: "${no where}"'),
      'storages.local.path: has a ${ that begins no',
      'config-missing',
    ],
    ['a tag', small.replace('path: backups', 'path: !env X'), 'tags (!name) are not supported', 'config-invalid'],
    ['a tab', small.replace('  local', '\tlocal'), '3:1: a tab indents this line', 'config-invalid'],
    ['two documents', `${small}---\n${small}`, 'several documents', 'config-invalid'],
    [
      'an incremental plain backup',
      small.replace('{ schedule', '{ incremental: true, schedule'),
      'needs format physical',
      'config-invalid',
    ],
    [
      'WAL that waits for nothing',
      small.replace('    jobs', '    wal: { flush: 0s }\n    jobs'),
      'wal.flush: must be at least 1s',
      'config-invalid',
    ],
    [
      'a slot that may hold back nothing',
      small.replace('    jobs', '    wal: { slot_budget: 0MiB }\n    jobs'),
      'wal.slot_budget: must be at least 1MiB',
      'config-invalid',
    ],
    [
      'only exclusions',
      small.replace('    jobs', '    databases: ["!x"]\n    jobs'),
      'only excludes',
      'config-invalid',
    ],
    [
      'a field that contradicts the URL',
      small.replace('    jobs', '    host: other\n    jobs'),
      '7:5: databases.shop.host: contradicts pgark.yaml:6:5 (other against db)',
      'config-conflict',
    ],
    [
      'keys beside the chain',
      small.replace(
        '  local: { type: file, path: backups }',
        '  s: { type: s3, bucket: bbb, credentials: default-chain, access_key_id: x }',
      ),
      'credentials: is set beside keys',
      'config-conflict',
    ],
    [
      'a store that is not AWS without keys',
      small.replace('{ type: file, path: backups }', '{ type: s3, bucket: bbb, endpoint: minio }'),
      'access_key_id: is required (or access_key_id_file)',
      'config-missing',
    ],
  ])('%s is refused with its place and what to write', async (_title, yaml, message, code) => {
    const error = await failure(yaml);
    expect(String(error)).toContain(message);
    expect(error).toMatchObject({ code });
  });

  test('all problems are said at once', async () => {
    const yaml = small
      .replace('path:', 'paht:')
      .replace('@daily', '99 * * * *')
      .replace('{ schedule', '{ to: [nil], colour: red, schedule');
    const message = String(await failure(yaml));
    for (const part of ['problems', 'paht', 'storages.local.path: is required', '99 * * * *', '"nil"', '"colour"']) {
      expect(message).toContain(part);
    }
  });
});
