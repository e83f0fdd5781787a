import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { loadConfig } from './load.ts';
import { unreferenced, whyUnheard } from './unreferenced.ts';

const key = { type: 'openssl', passphrase: 'x'.repeat(32) };

/** What is said of a configuration with all four sections, of databases with these settings. */
async function remarksOn(databases: Readonly<Record<string, object>>, defaults: object = {}) {
  await using folder = await makeTempDirectory();
  const withUrl = ([name, said]: [string, object]): object => [name, { url: `postgres://u:p@db/${name}`, ...said }];
  const config = {
    version: 1,
    storages: { near: { type: 'file', path: 'near' }, far: { type: 'file', path: 'far' } },
    encryption: { main: key },
    retention: { short: { keep: { last: 3 } } },
    notifications: { ops: { type: 'slack', url: 'https://hooks.slack.com/services/x' } },
    defaults,
    databases: Object.fromEntries(Object.entries(databases).map(withUrl) as [string, object][]),
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config));
  const loaded = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path });
  return {
    said: unreferenced(loaded).map(({ setting, remark }) => `${setting} ${remark}`),
    ops: whyUnheard(loaded, 'ops'),
  };
}

const bare = { jobs: { nightly: { format: 'plain', to: ['near'] } } };
const job = { format: 'plain', to: ['near', 'far'], retention: 'short' };

test('what no database and no job refers to is named, with what follows from it', async () => {
  const { said, ops } = await remarksOn({ shop: bare, crm: bare });
  expect(said).toEqual([
    'notifications.ops is named by no database: nobody is told through it',
    'encryption.main is used by no job: backups of shop, crm are not encrypted',
    'retention.short is used by no job: nothing is deleted by it',
    'storages.far is used by no job: nothing is stored there',
  ]);
  expect(ops).toBe('is named by no database: nobody is told through it');
});

test.each<[string, Readonly<Record<string, object>>, object?]>([
  ['named by a job', { shop: { notify: ['ops'], jobs: { nightly: { ...job, encryption: 'main' } } } }],
  ['named for all databases', { shop: { encryption: 'main', jobs: { nightly: job } } }, { notify: ['ops'] }],
  [
    'named by the archive of WAL',
    {
      shop: {
        notify: ['ops'],
        encryption: 'main',
        wal: { to: ['far'] },
        jobs: { base: { format: 'physical', to: ['near'], retention: 'short' } },
      },
    },
  ],
  ['kept to open older backups', { shop: { notify: ['ops'], jobs: { nightly: { ...job, encryption: 'none' } } } }],
])('nothing is said of what is %s', async (_title, databases, defaults) => {
  expect(await remarksOn(databases, defaults)).toEqual({ said: [], ops: undefined });
});

test('nothing is said of storages where backups of others are only tried', async () => {
  const { said } = await remarksOn({ shop: { verify: { schedule: '@daily' } } });
  expect(said.filter((each) => each.startsWith('storages.'))).toEqual([]);
});

test('nothing is said of a key that the environment gives and does not encrypt by', async () => {
  const env = {
    DATABASE_URL: 'postgres://u:p@db/shop',
    BACKUP_STORAGE: 'file:///backups',
    BACKUP_ENCRYPTION: 'none',
    BACKUP_ENCRYPTION_KEY: 'x'.repeat(32),
  };
  expect(unreferenced(await loadConfig({ env, cwd: '/' }))).toEqual([]);
});
