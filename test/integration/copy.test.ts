import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import {
  expectExit,
  expectFailure,
  filler,
  fileStorage,
  pgarkJson,
  s3Storage,
  SHORT_LEASE,
  startPgark,
  succeed,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { s3Facts } from '../support/facts.ts';
import { createDatabase, openDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

const PASSPHRASE = 'correct horse battery staple of thirty-two';

interface Scene extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly disk: Awaited<ReturnType<typeof fileStorage>>;
  readonly bucket: Awaited<ReturnType<typeof s3Storage>>;
  readonly env: Readonly<Record<string, string>>;
  /** Its id. */
  backUp(): Promise<string>;
}

/** A database, a directory that its backups go into, and a bucket that is further away. */
async function setScene(
  job: Readonly<Record<string, unknown>>,
  { sql = 'CREATE TABLE version AS SELECT 1 AS number;', sections = {}, bandwidth = '' } = {},
): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  const database = stack.use(await createDatabase({ sql }));
  const disk = stack.use(await fileStorage());
  const bucket = stack.use(await s3Storage());
  const folder = stack.use(await makeTempDirectory());
  const { endpoint, region, accessKey, secretKey } = s3Facts();
  const s3 = { type: 's3', endpoint, region, access_key_id: accessKey, secret_access_key: secretKey };
  const config = {
    version: 1,
    storages: {
      disk: { type: 'file', path: disk.path },
      offsite: { ...s3, bucket: bucket.bucket.name, retry: { attempts: 2, delay: '10ms' } },
    },
    databases: {
      shop: { url: urlOf(database.name), jobs: { all: { schedule: '@daily', to: ['disk'], ...job } } },
    },
    ...(bandwidth === '' ? {} : { defaults: { bandwidth } }),
    ...sections,
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config), { mode: 0o600 });
  const env = { PGARK_CONFIG: folder.join('pgark.yaml') };
  return {
    database,
    disk,
    bucket,
    env,
    backUp: async () => {
      const { results } = await pgarkJson<{ results: readonly { backup: { id: string } }[] }>(['backup'], env);
      return results[0]?.backup.id ?? '';
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

async function versionIn(name: string): Promise<unknown> {
  await using restored = openDatabase(name);
  // Awaited here: the database is dropped when this returns.
  return await restored.query('SELECT number FROM version');
}

const isData = (key: string): boolean => !/^\.pgark\/(runs|logs|leases|repository|reading|schedule)/.test(key);

describe.concurrent('pgark copy', () => {
  test.each([
    ['plain', { format: 'plain' }],
    ['directory', { format: 'directory' }],
    ['encrypted', { format: 'directory', encryption: 'box' }],
  ] as const)(
    'of a backup, %s: what is restored from the copy is all of it, when the first storage is gone',
    async (kind, job) => {
      const sections = kind === 'encrypted' ? { encryption: { box: { type: 'openssl', passphrase: PASSPHRASE } } } : {};
      await using scene = await setScene(job, { sections });
      const { env, disk, bucket, database } = scene;
      const id = await scene.backUp();
      const copied = await pgarkJson<{ backups: readonly object[] }>(['copy', id, '--to', 'offsite'], env);
      expect(copied).toMatchObject({
        id,
        to: 'offsite',
        from: ['disk'],
        backups: [{ id, state: 'copied' }],
        globals: { state: 'copied' },
        pinned: false,
        let_go: [],
      });
      const [here, there] = [(await disk.keys()).filter(isData), (await bucket.keys()).filter(isData)];
      expect(there).toEqual(here.toSorted());
      for (const key of there.filter((each) => !each.startsWith('.pgark/'))) {
        expect((await bucket.get(key)).equals(await readFile(join(disk.path, key)))).toBe(true);
      }
      expect(await bucket.openUploads()).toEqual([]);
      // Both are shown as places of one backup.
      expect((await succeed(['show', id], env)).stderr).toMatch(/^taking from disk: \S+ of \S+; also in offsite$/m);
      const listed = await pgarkJson<object>(['list'], env);
      expect(listed).toMatchObject({ storages: [{ backups: [{ id }] }, { backups: [{ id }] }] });
      // Once more is the same, and leaves nothing.
      const again = await succeed(['copy', 'latest', '--to', 'offsite'], env);
      expect(again.stdout).toContain(`already there, and the same: ${id} of ${database.name} in offsite`);
      const { runs } = await pgarkJson<{ runs: readonly { kind: string; state: string }[] }>(
        ['runs', '--storage', 'offsite'],
        env,
      );
      expect(runs).toMatchObject([{ kind: 'copy', state: 'succeeded' }]);
      for (const entry of await disk.keys()) await rm(join(disk.path, entry));
      expect(await pgarkJson(['verify', id, '--storage', 'offsite', '--deep'], env)).toMatchObject({
        backups: [{ id, depth: 'read', passed: true }],
      });
      const name = `${database.name}_copy`;
      await succeed(['restore', 'latest', '--to-db', name], env);
      expect(await versionIn(name)).toEqual([{ number: 1 }]);
    },
  );
});
void [expectExit, expectFailure, filler, SHORT_LEASE, startPgark, runPgark];
