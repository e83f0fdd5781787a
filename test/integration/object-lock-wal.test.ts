import { writeFile } from 'node:fs/promises';
import { HeadObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { operationContext } from '../../src/operations/context.ts';
import { prune } from '../../src/operations/prune.ts';
import { parseWalKey } from '../../src/repository/wal-keys.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { expectExit } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { backUpServer, restoreServer, ServerFolder } from '../support/physical.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { openS3Store } from '../support/s3-store.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { flushedLsn, load, startReceiving } from '../support/wal-receiving.ts';

const DAY_MS = 86_400_000;
let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
});
afterAll(() => cluster[Symbol.asyncDispose]());

/** Whole segments that are shown, and whether each is locked for the day that the storage says. */
async function segmentsIn(bucket: TestBucket): Promise<readonly string[]> {
  const keys = (await bucket.listKeys()).filter((key) => parseWalKey(key)?.kind === 'segment');
  for (const Key of keys) {
    const head = await bucket.client.send(new HeadObjectCommand({ Bucket: bucket.name, Key }));
    const days = ((head.ObjectLockRetainUntilDate?.getTime() ?? 0) - Date.now()) / DAY_MS;
    expect([Key, days > 0.9 && days <= 1]).toEqual([Key, true]);
  }
  return keys.sort();
}

/** The store two days later; nobody else's clock is changed. */
function twoDaysLater(store: ObjectStore): ObjectStore {
  const now: ObjectStore['now'] = async (options) => new Date((await store.now(options)).getTime() + 2 * DAY_MS);
  return new Proxy(store, {
    get(target, name) {
      if (name === 'now') return now;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

test('what a receiver archived stays while it is locked, with the reason, and goes when the lock is over', {
  timeout: 240_000,
}, async () => {
  await using bucket = await createBucket({ objectLock: true });
  await using folder = await makeTempDirectory();
  await using servers = await ServerFolder.make(cluster.binDir);
  const store = openS3Store(bucket.name, { objectLock: { mode: 'governance', days: 1 } });
  await using receiving = startReceiving(cluster, [store]);
  for (let round = 0; round < 2; round += 1) {
    await cluster.sql(load(2_500));
    await receiving.archives(await flushedLsn(cluster));
  }
  await backUpServer(cluster, [{ destination: { name: 's3', store, needsDelete: false } }], { source: 'shop' });
  await cluster.sql(load(2_500));
  await receiving.archives(await flushedLsn(cluster));
  await receiving.stop();
  const archived = await segmentsIn(bucket);

  const config = {
    version: 1,
    storages: {
      s3: {
        ...bucket.inFile(),
        access_key_id: '${KEY}',
        secret_access_key: '${SECRET}',
        object_lock: { mode: 'governance', days: 1 },
      },
    },
    retention: { one: { keep: { last: 1 }, min_backups: 1 } },
    databases: {
      shop: {
        url: cluster.url,
        jobs: { base: { format: 'physical', to: ['s3'], retention: 'one' } },
        wal: { to: ['s3'] },
      },
    },
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config));
  const env = { KEY: bucket.env['S3_ACCESS_KEY_ID'] ?? '', SECRET: bucket.env['S3_SECRET_ACCESS_KEY'] ?? '' };
  const pruned = async (...args: readonly string[]): Promise<string> => {
    const result = await runPgark(['prune', '--config', 'pgark.yaml', ...args], { cwd: folder.path, env });
    expectExit(result, 0);
    expect(result.stderr).not.toMatch(/WARNING|ERROR/);
    return result.stdout;
  };
  const why = /^WAL of shop that nothing needs stays until its lock is over: (\d+) segments$/m;
  const planned = Number(why.exec(await pruned('--dry-run'))?.[1]);
  expect(planned).toBeGreaterThan(0);
  const { storages } = JSON.parse(await pruned('--force', '--output', 'json')) as {
    storages: { wal: { segments: number; locked: number }[] }[];
  };
  expect(storages[0]?.wal).toMatchObject([{ segments: 0, locked: planned }]);
  expect(await segmentsIn(bucket)).toEqual(archived);

  const outcome = await prune(
    {
      store: twoDaysLater(store),
      filter: {},
      policyOf: () => ({ keep: { last: 1 }, minBackups: 1 }),
      walPolicyOf: () => ({ keepMs: undefined, lockedMs: DAY_MS }),
      timezone: 'UTC',
      leaseTermMs: 60_000,
      dryRun: false,
      force: false,
    },
    operationContext(),
  );
  expect(outcome.wal).toMatchObject([{ segments: planned, locked: 0 }]);
  expect(await segmentsIn(bucket)).toEqual(archived.slice(planned));
  const data = servers.join('data');
  await servers.makeFolder(data);
  await restoreServer(store, data);
  const server = await servers.start(data);
  // To its own end.
  expect(await server.value('select count(*) from load')).toBe('5000');
  await servers.stop(data);
  await store.close();
});
