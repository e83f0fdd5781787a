import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { PutBucketPolicyCommand, DeleteBucketPolicyCommand } from '@aws-sdk/client-s3';
import { escapeIdentifier } from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import {
  expectExit,
  expectFailure,
  filler,
  pgarkJson,
  s3Storage,
  startPgark,
  type Storage,
  succeed,
  substance,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { postgresFacts } from '../support/facts.ts';
import { openDatabase, runAsSuperuser, type TestDatabase } from '../support/postgres.ts';
import type { TestBucket } from '../support/s3.ts';
import { openS3Store } from '../support/s3-store.ts';
import { seedBackups } from '../support/seed.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const daysAgo = (days: number): Date => new Date(Date.now() - days * DAY_MS);

interface PruneJson {
  readonly storages: readonly {
    readonly keep: readonly { readonly id: string }[];
    readonly remove: readonly { readonly id: string }[];
    readonly removed: readonly string[];
  }[];
}

/** The server that the backups to come are of: backups of others would not be counted with them. */
async function thisServer(): Promise<{ systemIdentifier: string }> {
  const [row] = await runAsSuperuser<{ id: string }>('SELECT system_identifier::text AS id FROM pg_control_system()');
  return { systemIdentifier: row?.id ?? '' };
}

interface Scene extends AsyncDisposable {
  readonly storage: Storage & { readonly bucket: TestBucket };
  readonly shop: TestDatabase;
  readonly env: Record<string, string>;
  /** Old backups of the database, oldest first; their data is one byte. */
  seed(days: readonly number[], database?: string): Promise<{ readonly id: string; readonly keys: string[] }[]>;
}

async function setScene(): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  const storage = stack.use(await s3Storage());
  const shop = stack.use(openDatabase(`shop${randomBytes(5).toString('hex')}`));
  await runAsSuperuser(`CREATE DATABASE ${escapeIdentifier(shop.name)}`);
  await shop.query(filler(3));
  return {
    storage,
    shop,
    env: { ...storage.env, DATABASE_URL: shop.url, BACKUP_COMPRESSION: 'none' },
    async seed(days, database = shop.name) {
      const store = openS3Store(storage.bucket.name);
      try {
        const times = days.map(daysAgo);
        const server = await thisServer();
        const manifests = await seedBackups(store, { source: database, database, times, withData: true, server });
        return manifests.map(({ id, objects }) => ({
          id,
          keys: [`.pgark/backups/${database}/${database}/${id}.json`, ...objects.map(({ key }) => key)],
        }));
      } finally {
        await store.close();
      }
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

describe.concurrent('pruning after a backup', () => {
  test('a failed backup prunes nothing; a good one what is due, and neither neighbours nor what is foreign', async () => {
    await using scene = await setScene();
    const { storage, shop, env } = scene;
    const old = await scene.seed([40, 30, 20, 10]);
    await scene.seed([40, 30, 20, 10], `${shop.name}-eu`);
    await storage.bucket.put(`${shop.name}_2025-01-01T00:00:00Z.sql.gz`, 'somebody else’s');
    await storage.bucket.put(`${shop.name}.tar`, 'somebody else’s');
    const before = await substance(storage);

    await using proxy = await startTcpProxy(postgresFacts());
    const held = proxy.holdAfter(MIB);
    const failing = startPgark(['backup'], { env: { ...env, DATABASE_URL: urlOf(shop.name, { port: proxy.port }) } });
    (await held).cut();
    expectExit(await failing.result, 1);
    expect(await substance(storage)).toEqual(before);

    const { stderr } = await succeed(['backup'], env);
    expect(stderr).toMatch(/pruned 2 old backups/);
    const after = await substance(storage);
    // Three stay, whatever their age, and the newest of all is the one just made.
    const gone = old.slice(0, 2).flatMap(({ keys }) => keys);
    expect(before.filter((key) => !after.includes(key)).sort()).toEqual(gone.sort());
    expect(after.filter((key) => !before.includes(key))).toHaveLength(2);
  });

  test('what would delete more than half is refused: a warning beside a good backup, an error of prune, done by force', async () => {
    await using scene = await setScene();
    const { storage, env } = scene;
    await scene.seed([80, 70, 60, 50, 40, 30, 20]);
    const before = await substance(storage);
    const { stderr } = await succeed(['backup'], env);
    expect(stderr).toMatch(
      /WARNING the backup is safe, but old ones were not pruned: .* would delete 5 of 8 backups of shop\w+, more than half; none of them was deleted; .*--force/,
    );
    expect(await substance(storage)).toEqual(expect.arrayContaining(before));

    const dryRun = await pgarkJson<PruneJson>(['prune', '--dry-run'], env);
    expect(dryRun.storages[0]).toMatchObject({ removed: [], refused: [{ remove: 5, of: 8 }] });
    expect(dryRun.storages[0]?.remove).toHaveLength(5);
    expect((await succeed(['prune', '--dry-run'], env)).stderr).toMatch(
      /WARNING .* would delete 5 of 8 backups of shop\w+, more than half: pgark prune refuses that without --force/,
    );
    expect((await succeed(['prune', '--dry-run', '--force'], env)).stderr).toBe('');
    expectFailure(await runPgark(['prune'], { env }), {
      exit: 1,
      message: /would delete 5 of 8 backups of shop\w+, more than half; none of them was deleted/,
      hint: /pgark prune --dry-run.*pgark prune --force/,
    });
    expect(await substance(storage)).toHaveLength(before.length + 2);

    await succeed(['prune', '--force'], env);
    const left = await substance(storage);
    expect(left).toHaveLength(6);
    // Again and again: the minimum stays.
    await succeed(['prune', '--force'], env);
    expect(await substance(storage)).toEqual(left);
    await succeed(['restore', 'latest', '--to-db', 'never made', '--plan'], env);
  });

  test('where one of two databases would lose more than half, the other is pruned, and the command says both', async () => {
    await using scene = await setScene();
    const { storage, shop } = scene;
    const other = `${shop.name}-other`;
    await using directory = await makeTempDirectory();
    const config = directory.join('pgark.yaml');
    const to = { jobs: { plain: { format: 'plain', to: ['s3'], retention: 'two' } } };
    const settings = {
      version: 1,
      storages: { s3: storage.bucket.inFile() },
      retention: { two: { keep: { last: 2 }, min_backups: 1 } },
      databases: {
        [shop.name]: { url: shop.url, ...to },
        [other]: { url: urlOf(other), ...to },
      },
    };
    await writeFile(config, JSON.stringify(settings));
    await scene.seed([50, 40, 30]);
    await scene.seed([50, 40, 30, 20, 10], other);
    const result = await runPgark(['prune', '--config', config], { env: {} });
    expectExit(result, 1);
    expect(result.stdout).toMatch(/^deleted 1 backup, 1 B; 7 kept\ndeleted nothing of shop\w+-other: 3 of 5 backups/m);
    expect(result.stderr).toMatch(/would delete 3 of 5 backups of shop\w+-other, more than half/);
    expect((await substance(storage)).filter((key) => key.endsWith('.sql.gz'))).toHaveLength(7);
  });

  test('the only backup stays, however old it is', async () => {
    await using scene = await setScene();
    const [only] = await scene.seed([4_000]);
    await succeed(['prune', '--force'], scene.env);
    expect(await substance(scene.storage)).toEqual(only?.keys);
  });

  test('an object that may not be deleted is a warning; the backup counts, and a later prune ends the work', async () => {
    await using scene = await setScene();
    const { storage, env } = scene;
    const { bucket } = storage;
    const [oldest] = await scene.seed([40, 30, 20, 10]);
    const data = oldest?.keys[1] ?? '';
    const deny = {
      Version: '2012-10-17',
      Statement: [
        {
          Effect: 'Deny',
          Principal: '*',
          Action: 's3:DeleteObject',
          // By its day: Ceph takes no colon in a policy's resource.
          Resource: `arn:aws:s3:::${bucket.name}/${data.slice(0, data.indexOf('T'))}*`,
        },
      ],
    };
    await bucket.client.send(new PutBucketPolicyCommand({ Bucket: bucket.name, Policy: JSON.stringify(deny) }));
    const { stderr, stdout } = await succeed(['backup'], env);
    expect(stdout).toMatch(/^backed up /);
    expect(stderr).toMatch(
      /WARNING the backup is safe, but old ones were not pruned: s3:DeleteObject on .* is not allowed: AccessDenied \(403\); grant s3:DeleteObject/,
    );
    expect(await storage.keys()).toContain(data);
    await bucket.client.send(new DeleteBucketPolicyCommand({ Bucket: bucket.name }));
    await succeed(['prune'], env);
    const left = await substance(storage);
    expect(left).not.toContain(data);
    expect(left.filter((key) => key.startsWith('.pgark/deleted/'))).toEqual([]);
    expect(left).toHaveLength(6);
  });

  test('a key without the right to delete is told so before any work, and may back up with nothing to prune', async () => {
    await using scene = await setScene();
    const { storage, env } = scene;
    const { bucket } = storage;
    const deny = {
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Deny', Principal: '*', Action: 's3:DeleteObject', Resource: `arn:aws:s3:::${bucket.name}/*` },
      ],
    };
    await bucket.client.send(new PutBucketPolicyCommand({ Bucket: bucket.name, Policy: JSON.stringify(deny) }));
    try {
      expectFailure(await runPgark(['backup'], { env }), {
        exit: 3,
        message: /s3:DeleteObject on .* is not allowed/,
        hint: /grant s3:DeleteObject/,
      });
      await succeed(['backup'], { ...env, BACKUP_RETENTION_DAYS: 'forever' });
      await succeed(['verify'], env);
    } finally {
      await bucket.client.send(new DeleteBucketPolicyCommand({ Bucket: bucket.name }));
    }
  });
});

/** More than a page of a list has. */
const MANY = 1_100;

describe(`a bucket of ${MANY} backups`, () => {
  test('is listed, pruned and restored from as a whole, not by its first page', { timeout: 600_000 }, async () => {
    await using scene = await setScene();
    const { storage, shop, env } = scene;
    const now = Date.now();
    const times = Array.from({ length: MANY - 1 }, (_, index) => new Date(now - (MANY - 1 - index) * HOUR_MS));
    const store = openS3Store(storage.bucket.name);
    await seedBackups(store, { source: shop.name, database: shop.name, times, server: await thisServer() });
    await store.close();
    await succeed(['backup', '--no-prune'], env);
    const listed = await pgarkJson<{ storages: { backups: { id: string; started_at: string }[] }[] }>(['list'], env);
    const backups = listed.storages[0]?.backups ?? [];
    expect(backups).toHaveLength(MANY);
    expect(backups.slice(0, -1).map((backup) => backup.started_at)).toEqual(times.map((time) => time.toISOString()));
    const newest = backups.at(-1);
    const plan = await succeed(['restore', 'latest', '--to-db', 'never made', '--plan'], env);
    const data = (await storage.keys()).find((key) => key.endsWith('.sql')) ?? 'none';
    expect(plan.stdout).toContain(data);
    const dryRun = await pgarkJson<PruneJson>(['prune', '--dry-run'], env);

    const [pruned] = dryRun.storages;
    // Seven days of hourly ones, and the one just made.
    expect(pruned?.keep).toHaveLength(7 * 24);
    expect(pruned?.remove).toHaveLength(MANY - 7 * 24);
    expect(pruned?.keep.at(-1)?.id).toBe(newest?.id);
  });
});
