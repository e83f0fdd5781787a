import { writeFile } from 'node:fs/promises';
import { DeleteObjectCommand, HeadObjectCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { expectExit, expectFailure } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { openS3Store } from '../support/s3-store.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

const DAY_MS = 86_400_000;
let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS n' });
});
afterAll(() => database[Symbol.asyncDispose]());

type World = TempDirectory & { readonly run: (...args: readonly string[]) => Promise<RunResult> };

/** A bucket as storage that keeps one backup, and locks each for two days. */
async function lockedWorld(bucket: TestBucket): Promise<World> {
  const folder = await makeTempDirectory();
  const keys = { access_key_id: '${KEY}', secret_access_key: '${SECRET}' };
  const config = {
    version: 1,
    storages: {
      s3: { ...bucket.inFile(), ...keys, object_lock: { mode: 'governance', days: 2 } },
      disk: { type: 'file', path: 'disk' },
    },
    retention: { one: { keep: { last: 1 }, min_backups: 1 } },
    databases: {
      shop: {
        url: database.url,
        globals: 'auto',
        jobs: {
          plain: { format: 'plain', to: ['s3'], retention: 'one' },
          near: { format: 'plain', to: ['disk'], retention: 'one' },
        },
      },
    },
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config));
  const env = { KEY: bucket.env['S3_ACCESS_KEY_ID'] ?? '', SECRET: bucket.env['S3_SECRET_ACCESS_KEY'] ?? '' };
  const run = (...args: readonly string[]) => runPgark([...args, '--config', 'pgark.yaml'], { cwd: folder.path, env });
  return { ...folder, run };
}

/** How long from now on each object that is shown is locked, in days; 0 if it is not. */
async function locksOf(bucket: TestBucket): Promise<ReadonlyMap<string, number>> {
  const keys = await bucket.listKeys();
  const locks = await Promise.all(
    keys.map(async (Key): Promise<[string, number]> => {
      const head = await bucket.client.send(new HeadObjectCommand({ Bucket: bucket.name, Key }));
      const until = head.ObjectLockRetainUntilDate?.getTime();
      if (until !== undefined) expect(head.ObjectLockMode).toBe('GOVERNANCE');
      return [Key, until === undefined ? 0 : (until - Date.now()) / DAY_MS];
    }),
  );
  return new Map(locks);
}

describe('a storage with object_lock', () => {
  test('locks backups, and not what is written over; nobody deletes them, and retention keeps them till then', async () => {
    await using bucket = await createBucket({ objectLock: true });
    await using world = await lockedWorld(bucket);
    for (const args of [
      ['backup', '--to', 's3'],
      ['backup', '--to', 'disk'],
      ['copy', 'latest', '--to', 's3'],
    ]) {
      const result = await world.run(...args);
      expectExit(result, 0);
      expect(result.stderr).not.toMatch(/WARNING|is not carried out/);
    }
    const isData = (key: string): boolean =>
      /^\.pgark\/(backups|globals)\//.test(key) || (!key.startsWith('.pgark/') && key.includes('.sql'));
    const locks = await locksOf(bucket);
    const data = [...locks].filter(([key]) => isData(key));
    // Two backups, a copy of another one, and the globals beside each, with their records.
    expect(data).toHaveLength(12);
    for (const [key, days] of data) expect([key, days > 1.9 && days <= 2]).toEqual([key, true]);
    expect([...locks].filter(([key, days]) => !isData(key) && days > 0)).toEqual([]);

    const { Versions = [] } = await bucket.client.send(new ListObjectVersionsCommand({ Bucket: bucket.name }));
    for (const { Key, VersionId } of Versions.filter((version) => isData(version.Key ?? ''))) {
      const request = new DeleteObjectCommand({ Bucket: bucket.name, Key, VersionId });
      await expect(bucket.client.send(request)).rejects.toMatchObject({ name: 'AccessDenied' });
    }

    const plan = await world.run('prune', '--storage', 's3', '--dry-run', '--output', 'json');
    const { keep, remove } = (
      JSON.parse(plan.stdout) as { storages: { keep: { reasons: string[] }[]; remove: unknown[] }[] }
    ).storages[0] ?? { keep: [], remove: [] };
    expect(remove).toEqual([]);
    expect(keep.map(({ reasons }) => reasons.includes('locked'))).toEqual([true, true, true]);
    const pruned = await world.run('prune', '--storage', 's3', '--force');
    expectExit(pruned, 0);
    expect(pruned.stderr).not.toMatch(/WARNING|ERROR/);
    expect(await locksOf(bucket).then((after) => [...after].filter(([key]) => isData(key)).length)).toBe(12);
    expectExit(await world.run('verify'), 0);
  });

  test('is refused with a clear sentence where the bucket was not made for it', async () => {
    await using bucket = await createBucket();
    await using world = await lockedWorld(bucket);
    const refusal = {
      exit: 3,
      message: /has no Object Lock, and object_lock wants/,
      hint: /make a bucket with Object Lock/,
    };
    expectFailure(await world.run('backup', '--to', 's3', '--no-prune'), refusal);
    const probe = await world.run('storage', 'probe', 's3');
    expect(probe.exitCode).toBe(3);
    expect(probe.stdout).toMatch(/^✖ write: bucket .* has no Object Lock/m);
    expect((await world.run('doctor')).stdout).toContain('has no Object Lock');
    expect(await bucket.listKeys()).toEqual([]);
  });

  test('locks an upload of several parts, too, and what is lasting of small objects', async () => {
    await using bucket = await createBucket({ objectLock: true });
    const store = openS3Store(bucket.name, { objectLock: { mode: 'governance', days: 1 } });
    await store.putStream(
      'large',
      (async function* () {
        for (let count = 0; count < 18; count += 1) yield Buffer.alloc(MIB, count);
      })(),
    );
    await store.putSmall('lasting', Buffer.from('x'), { isLasting: true, condition: { ifAbsent: true } });
    await store.putSmall('passing', Buffer.from('x'));
    const locks = await locksOf(bucket);
    expect([...locks].map(([key, days]) => [key, Math.round(days)])).toEqual([
      ['large', 1],
      ['lasting', 1],
      ['passing', 0],
    ]);
    // What is deleted goes out of sight, and its version stays.
    await store.delete('large');
    expect(await store.head('large')).toBeUndefined();
    await store.close();
  });
});
