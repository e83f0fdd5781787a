import { PutBucketPolicyCommand } from '@aws-sdk/client-s3';
import { describe, expect, test, vi } from 'vitest';
import { expectExit, expectFailure, pgarkJson, s3Storage, substance, succeed, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { createDatabase } from '../support/postgres.ts';
import { openS3Store } from '../support/s3-store.ts';
import { seedBackups } from '../support/seed.ts';
import { twoStorages } from '../support/two-storages.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

const DAY_MS = 86_400_000;

/** Five backups of a database that need not be there, the oldest first; retention lets the first two go. */
async function setScene() {
  const storage = await s3Storage();
  const store = openS3Store(storage.bucket.name);
  try {
    const times = [50, 40, 3, 2, 1].map((days) => new Date(Date.now() - days * DAY_MS));
    const manifests = await seedBackups(store, { source: 'shop', database: 'shop', times, withData: true });
    const env = { ...storage.env, DATABASE_URL: urlOf('shop'), BACKUP_RETENTION_DAYS: '7' };
    return {
      storage,
      env,
      ids: manifests.map(({ id }) => id as string),
      [Symbol.asyncDispose]: () => storage[Symbol.asyncDispose](),
    };
  } finally {
    await store.close();
  }
}

describe.concurrent('pgark pin', () => {
  test('keeps a backup from retention, says so everywhere, until pgark unpin lets go', async () => {
    await using scene = await setScene();
    const { env, ids, storage } = scene;
    const [oldest = '', second = ''] = ids;
    expect((await succeed(['pin', oldest, '--reason', 'before the move'], env)).stdout).toBe(`pinned ${oldest}\n`);
    const again = await pgarkJson<object>(['pin', oldest], env);
    expect(again).toMatchObject({
      id: oldest,
      storages: [{ state: 'pinned', changed: false, pin: { reason: 'before the move' } }],
    });
    expect((await succeed(['show', oldest], env)).stdout).toMatch(/^pinned +\d{4}-\S+ by .+: before the move$/m);
    expect(await pgarkJson(['show', oldest], env)).toMatchObject({
      backup: { pinned: true, pin: { pinned_at: expect.any(String) } },
    });
    expect((await succeed(['list'], env)).stdout).toMatch(/\(pinned\)/);
    const dry = await succeed(['prune', '--dry-run'], env);
    expect(dry.stdout).toMatch(/would delete 1 backup,.*; 4 kept\nof these, 1 backup kept by a pin: \S+; pgark show/);
    expect(dry.stdout).toContain(oldest);
    await succeed(['prune'], env);
    const left = await substance(storage);
    expect(left.filter((key) => key.includes('/backups/')).map((key) => key.slice(-35, -5).slice(-24))).toEqual(
      ids.filter((id) => id !== second),
    );
    expect((await succeed(['unpin', oldest], env)).stdout).toBe(`unpinned ${oldest}\n`);
    expect((await succeed(['unpin', oldest], env)).stdout).toBe(`${oldest} is not pinned\n`);
    const { runs } = await pgarkJson<{ runs: readonly { kind: string }[] }>(['runs'], env);
    expect(runs.map(({ kind }) => kind).toSorted()).toEqual(['pin', 'prune', 'unpin']);
    await succeed(['prune'], env);
    expect((await substance(storage)).join('\n')).not.toContain(oldest);
    // It is told that it is not there, also of one that was.
    for (const verb of ['pin', 'unpin']) {
      expectFailure(await runPgark([verb, oldest], { env }), {
        exit: 10,
        message: /Backup not found/,
        hint: /list|mean/,
      });
    }
  });

  test('takes what other commands take, and refuses what is no pin', async () => {
    await using scene = await setScene();
    const { env, ids, storage } = scene;
    const newest = ids.at(-1);
    expect(await pgarkJson(['pin', 'latest'], env)).toMatchObject({ id: newest });
    expect(await pgarkJson(['unpin', 'latest'], env)).toMatchObject({ id: newest, storages: [{ changed: true }] });
    const [file = ''] = (await storage.keys()).filter((key) => key.startsWith('shop_'));
    expect(await pgarkJson(['pin', file], env)).toMatchObject({ id: ids[0] });
    expectExit(await runPgark(['pin', 'latest', '--reason', 'two\nlines'], { env }), 2);
    expectExit(await runPgark(['pin', 'latest', '--reason', ''], { env }), 2);
    expectExit(await runPgark(['pin'], { env }), 2);
    await storage.bucket.put('other.sql', 'of another tool');
    expectFailure(await runPgark(['pin', 'other.sql'], { env }), {
      exit: 10,
      message: /written by another tool/,
      hint: /never deletes/,
    });
    // A pin that is left of what somebody removed by hand.
    const gone = '20250101T000000Z-paaaaaa';
    await storage.bucket.put(`.pgark/pins/${gone}.json`, '{}');
    await succeed(['unpin', gone], env);
    expect(await storage.keys()).not.toContain(`.pgark/pins/${gone}.json`);
  });

  test('says which right is missing where the storage may only be read, and pins nothing', async () => {
    await using scene = await setScene();
    const { env, ids, storage } = scene;
    const { bucket } = storage;
    const resource = `arn:aws:s3:::${bucket.name}/*`;
    const deny = {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Deny', Principal: '*', Action: 's3:PutObject', Resource: resource }],
    };
    await bucket.client.send(new PutBucketPolicyCommand({ Bucket: bucket.name, Policy: JSON.stringify(deny) }));
    expectFailure(await runPgark(['pin', ids[0] ?? ''], { env }), {
      exit: 3,
      message: /s3:PutObject on .*\.pgark\/pins\/.* is not allowed/,
      hint: /grant s3:PutObject/,
    });
    expect((await storage.keys()).filter((key) => key.startsWith('.pgark/pins/'))).toEqual([]);
  });

  test('is of every storage that has the backup, and ends with 4 where one of them is away', async () => {
    await using database = await createDatabase();
    const job = { schedule: '@daily', format: 'plain', to: ['near', 'far'] };
    await using places = await twoStorages({ shop: { url: urlOf(database.name), jobs: { all: job } } });
    const env = await places.env();
    await succeed(['backup'], env);
    await succeed(['backup', '--to', 'far'], env);
    const pins = async () =>
      Promise.all(
        [places.near, places.far].map(
          async (each) => (await each.keys()).filter((key) => key.includes('/pins/')).length,
        ),
      );
    const { backups } =
      (await pgarkJson<{ storages: { backups: { id: string }[] }[] }>(['list'], env)).storages[0] ?? {};
    const both = backups?.[0]?.id ?? '';
    expect(await pgarkJson(['pin', both], env)).toMatchObject({
      storages: [
        { storage: 'near', changed: true },
        { storage: 'far', changed: true },
      ],
    });
    expect(await pins()).toEqual([1, 1]);
    // The newest is in one of them only.
    expect(await pgarkJson(['pin', 'latest'], env)).toMatchObject({ storages: [{ storage: 'far' }] });
    expect(await pins()).toEqual([1, 2]);
    const away = await runPgark(['unpin', both, '-o', 'json'], { env: await places.env('near') });
    expectExit(away, 4);
    expect(JSON.parse(away.stdout)).toMatchObject({
      storages: [
        { storage: 'near', state: 'failed', error: { code: 'store-unreachable' } },
        { storage: 'far', state: 'not-pinned', changed: true },
      ],
    });
    expectExit(await runPgark(['pin', both], { env: await places.env('near') }), 4);
    expect(await pins()).toEqual([1, 2]);
    await succeed(['unpin', both, '--storage', 'near'], env);
    expect(await pins()).toEqual([0, 2]);
  });
});
