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
  startPgark,
  succeed,
  untilExit,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { flipBit } from '../support/damage.ts';
import { s3Facts } from '../support/facts.ts';
import { createDatabase, openDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

const PASSPHRASE = 'correct horse battery staple of thirty-two';

interface ListJson {
  readonly storages: readonly { readonly backups: readonly { readonly id: string }[] }[];
}

interface Scene extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly disk: Awaited<ReturnType<typeof fileStorage>>;
  readonly bucket: Awaited<ReturnType<typeof s3Storage>>;
  readonly env: Readonly<Record<string, string>>;
  /** So slow that there is time to end it in the middle. */
  readonly slow: Readonly<Record<string, string>>;
  /** Its id. */
  backUp(): Promise<string>;
}

/** A database, a directory that its backups go into, and a bucket that is further away. */
async function setScene(
  job: Readonly<Record<string, unknown>>,
  { sql = 'CREATE TABLE version AS SELECT 1 AS number;', sections = {} } = {},
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
    ...sections,
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config), { mode: 0o600 });
  const env = { PGARK_CONFIG: folder.join('pgark.yaml') };
  const limited = { ...config, defaults: { bandwidth: '6MiB/s', lease_term: '8s' } };
  await writeFile(folder.join('slow.yaml'), JSON.stringify(limited), { mode: 0o600 });
  return {
    database,
    disk,
    bucket,
    env,
    slow: { PGARK_CONFIG: folder.join('slow.yaml') },
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
      for (const entry of await disk.keys()) await rm(join(disk.path, entry));
      expect(await pgarkJson(['verify', id, '--storage', 'offsite', '--deep'], env)).toMatchObject({
        backups: [{ id, depth: 'read', passed: true }],
      });
      const name = `${database.name}_copy`;
      await succeed(['restore', 'latest', '--to-db', name], env);
      expect(await versionIn(name)).toEqual([{ number: 1 }]);
    },
  );

  test('is shown as another place of the same backup, and made once more is the same', async () => {
    await using scene = await setScene({ format: 'plain' });
    const { env, database } = scene;
    const id = await scene.backUp();
    await succeed(['copy', id, '--to', 'offsite'], env);
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
  });

  test('of a backup of which a byte was flipped is none, and leaves nothing; nor is one where something foreign lies', async () => {
    await using scene = await setScene({ format: 'directory' }, { sql: filler(1) });
    const { env, disk, bucket } = scene;
    const id = await scene.backUp();
    const sized = await Promise.all(
      (await disk.keys())
        .filter((key) => key.includes('/archive/'))
        .map(async (key) => ({ key, bytes: (await readFile(join(disk.path, key))).length })),
    );
    const [largest] = sized.toSorted((a, b) => b.bytes - a.bytes);
    const file = join(disk.path, largest?.key ?? '');
    const whole = await readFile(file);
    const damaged = Buffer.from(whole);
    flipBit(damaged, Math.floor(damaged.length / 2));
    await writeFile(file, damaged);
    expectFailure(await runPgark(['copy', id, '--to', 'offsite'], { env }), {
      exit: 20,
      message: /cannot be copied from disk: .* is damaged: its content has not the SHA-256 that was recorded/,
      hint: /restore another backup/,
    });
    const isOfCopy = (key: string): boolean => isData(key) && !key.includes('globals');
    expect((await bucket.keys()).filter(isOfCopy)).toEqual([]);
    expect(await bucket.openUploads()).toEqual([]);
    await writeFile(file, whole);
    const foreign = `shop/archive/${id}/notes.txt`;
    await bucket.bucket.put(foreign, 'of somebody else');
    expectFailure(await runPgark(['copy', id, '--to', 'offsite'], { env }), {
      exit: 1,
      message: /notes\.txt is already in .*, where the copy would lie, and is not of it/,
      hint: /nothing is ever replaced/,
    });
    expect((await bucket.keys()).filter(isOfCopy)).toEqual([foreign]);
    const { runs } = await pgarkJson<{ runs: readonly object[] }>(['runs', '--storage', 'offsite'], env);
    expect(runs).toMatchObject([
      { kind: 'copy', state: 'failed' },
      { kind: 'copy', state: 'failed' },
    ]);
  });

  test.each(['SIGKILL', 'SIGTERM'] as const)(
    'that %s ends in the middle is taken up by the next one',
    async (signal) => {
      await using scene = await setScene({ format: 'plain', compression: { algorithm: 'none' } }, { sql: filler(24) });
      const { env, slow, bucket } = scene;
      const id = await scene.backUp();
      const run = startPgark(['copy', id, '--to', 'offsite'], { env: slow });
      // The write probe opens one too, for a moment.
      const isUnderWay = async (): Promise<boolean> =>
        (await bucket.openUploads()).some((upload) => !upload.includes('.pgark/'));
      await vi.waitUntil(isUnderWay, { timeout: 120_000 });
      await run.kill(signal);
      const { exitCode } = await run.result;
      expect(exitCode).toBe(signal === 'SIGTERM' ? 130 : null);
      const left = (await bucket.keys()).filter((key) => isData(key) && !key.includes('globals'));
      expect(left).toEqual(signal === 'SIGTERM' ? [] : [`.pgark/intents/${id}.json`]);
      expect(await bucket.openUploads()).toHaveLength(signal === 'SIGTERM' ? 0 : 1);
      // The lease of who was killed ends with its term.
      const next = await untilExit(0, [11], () => runPgark(['copy', id, '--to', 'offsite'], { env }));
      expect(next.stdout).toContain(`copied ${id} of ${scene.database.name} to offsite: 1 object`);
      expect(await bucket.openUploads()).toEqual([]);
      expect((await bucket.keys()).filter((key) => key.includes('intents'))).toEqual([]);
      expect(await pgarkJson(['verify', id, '--storage', 'offsite', '--deep'], env)).toMatchObject({
        backups: [{ id, passed: true }],
      });
    },
  );

  test('asks for what it needs to know, and finds what other commands find', async () => {
    await using scene = await setScene({ format: 'plain' });
    const { env, disk, bucket } = scene;
    const id = await scene.backUp();
    expectExit(await runPgark(['copy', 'latest'], { env }), 2);
    expectExit(await runPgark(['copy', 'latest', '--to', 'nowhere'], { env }), 2);
    expectExit(await runPgark(['copy', 'latest', '--to', 'disk', '--from', 'disk'], { env }), 2);
    expectExit(await runPgark(['copy', 'shop_1.sql.gz', '--to', 'offsite'], { env }), 10);
    expectExit(await runPgark(['copy', id, '--to', 'disk', '--from', 'offsite'], { env }), 10);
    await writeFile(join(disk.path, 'other.sql'), 'of another tool');
    expectFailure(await runPgark(['copy', 'other.sql', '--to', 'offsite'], { env }), {
      exit: 10,
      message: /written by another tool/,
      hint: /tool of the storage/,
    });
    const [file = ''] = (await disk.keys()).filter((key) => key.endsWith('.sql.gz') && !key.includes('/'));
    const dry = await succeed(['copy', file, '--to', 'offsite', '--dry-run'], env);
    expect(dry.stdout).toContain(`would copy ${id} of ${scene.database.name} to offsite: 1 object`);
    expect(await bucket.keys()).toEqual([]);
    await succeed(['copy', 'latest', '--database', 'shop', '--to', 'offsite'], env);
    expect((await succeed(['copy', id, '--to', 'disk'], env)).stdout).toContain('already there, and the same');
  });

  test('into a storage that backups go to as well counts there as any backup', async () => {
    const job = { format: 'plain', to: ['disk', 'offsite'], retention: 'few' };
    const sections = { retention: { few: { keep: { last: 2 }, min_backups: 1 } } };
    await using scene = await setScene(job, { sections });
    const { env } = scene;
    await succeed(['backup', '--to', 'disk', '--no-prune'], env);
    const { storages } = await pgarkJson<ListJson>(['list'], env);
    const oldest = storages[0]?.backups[0]?.id ?? '';
    for (let count = 0; count < 2; count += 1) await succeed(['backup', '--no-prune'], env);
    const copied = await succeed(['copy', oldest, '--to', 'offsite'], env);
    expect(copied.stderr).toMatch(
      new RegExp(
        `WARNING the next prune of offsite deletes ${oldest}, which its retention lets go; .* pgark pin ${oldest}`,
      ),
    );
    await succeed(['prune', '--storage', 'offsite'], env);
    const left = await pgarkJson<ListJson>(['list'], env);
    expect(left.storages.map(({ backups }) => backups.length)).toEqual([3, 2]);
    await succeed(['pin', oldest], env);
    const pinned = await succeed(['copy', oldest, '--to', 'offsite'], env);
    expect(pinned.stdout).toContain('pinned   there too');
    expect((await succeed(['prune', '--storage', 'offsite'], env)).stdout).toContain(`kept by a pin: ${oldest}`);
  });
});
