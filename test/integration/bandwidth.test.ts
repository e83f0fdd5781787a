import { writeFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { describe, expect, test } from 'vitest';
import { openStore } from '../../src/app.ts';
import { silentLogger } from '../../src/common/log.ts';
import { systemClock } from '../../src/common/clock.ts';
import type { S3StorageConfig } from '../../src/config/model.ts';
import { MIB } from '../../src/common/bytes.ts';
import { Secret } from '../../src/common/secret.ts';
import { Throttle } from '../../src/pipeline/throttle.ts';
import { streamOf } from '../../src/storage/contract/harness.contract.ts';
import { keys } from '../../src/repository/keys.ts';
import { throttledStore } from '../../src/service/throttled-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { expectExit, filler, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { backUp, backupsIn, s3Destination } from '../support/destinations.ts';
import { s3Facts } from '../support/facts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { createDatabase } from '../support/postgres.ts';
import { createBucket } from '../support/s3.ts';
import { SleepClock } from '../support/sleep-clock.ts';
import { futureDatabase } from '../support/restoring.ts';
import { makeTempDirectory } from '../support/temp.ts';

const RATE = MIB;
const retry = { retriesMax: 3, delayMs: 10, delayMsMax: 10 };

/** The same store that a command opens, with a limit whose time passes only by waiting for it. */
async function openLimited(bucket: string, endpoint: string, throttle: Throttle): Promise<ObjectStore> {
  const { region, accessKey, secretKey } = s3Facts();
  const config: S3StorageConfig = {
    type: 's3',
    name: 'far',
    bucket,
    prefix: '',
    endpoint,
    region,
    credentials: { kind: 'keys', accessKeyId: new Secret(accessKey), secretAccessKey: new Secret(secretKey) },
    forcePathStyle: true,
    retry,
  };
  return openStore(config, silentLogger, throttle);
}

async function read(store: ObjectStore, key: string): Promise<number> {
  let bytes = 0;
  for await (const block of (await store.get(key)).body) bytes += block.byteLength;
  return bytes;
}

describe.concurrent('a limit of bandwidth', () => {
  test('holds for all that goes to storages and comes from them together, parts that are sent again among it', async () => {
    await using one = await createBucket();
    await using other = await createBucket();
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    const clock = new SleepClock();
    const throttle = new Throttle(RATE, clock);
    const stores = [
      await openLimited(one.name, proxy.endpoint, throttle),
      await openLimited(other.name, proxy.endpoint, throttle),
    ] as const;
    for (const store of stores) await store.probe({ write: true });
    /** How long it takes by the clock that waits, in bytes that may pass in that time. */
    const allowance = async (work: () => Promise<unknown>): Promise<number> => {
      const beforeMs = clock.monotonicMs();
      await work();
      return ((clock.monotonicMs() - beforeMs) / 1_000) * RATE;
    };
    const near = (bytes: number): readonly [number, number] => [bytes - MIB / 4, bytes + MIB / 4];
    const expectNear = (found: number, bytes: number): void => {
      const [least, most] = near(bytes);
      expect(found).toBeGreaterThan(least);
      expect(found).toBeLessThan(most);
    };
    const put = (store: ObjectStore, key: string): Promise<unknown> =>
      store.putStream(key, streamOf(new Uint8Array(20 * MIB)), {});
    expectNear(await allowance(() => Promise.all(stores.map((store) => put(store, 'a')))), 40 * MIB);
    expectNear(await allowance(() => Promise.all(stores.map((store) => read(store, 'a')))), 40 * MIB);
    expectNear(await allowance(() => Promise.all([put(stores[0], 'b'), read(stores[1], 'a')])), 40 * MIB);

    let resent = 0;
    proxy.setFaults(({ operation, partNumber }) => {
      if (operation !== 'UploadPart' || partNumber !== 2 || resent === 2) return undefined;
      resent += 1;
      return { kind: 'answer', status: 503, code: 'SlowDown' };
    });
    expectNear(await allowance(() => put(stores[0], 'c')), 20 * MIB + 2 * 8 * MIB);
    expect(resent).toBe(2);

    // What is small does not wait, and is paid for by what follows.
    const lease = new Uint8Array(32 * 1024);
    const small = async (): Promise<void> => {
      for (let count = 0; count < 64; count++) await stores[0].putSmall(keys.lease(`lease ${count}`), lease);
      for (let count = 0; count < 64; count++) await read(stores[0], keys.lease(`lease ${count}`));
    };
    expect(await allowance(small)).toBe(0);
    expectNear(await allowance(() => put(stores[0], 'd')), 20 * MIB + 4 * MIB);
    for (const store of stores) await store.close();
  });

  test('is that of the configuration, for a backup and a restore', async () => {
    await using database = await createDatabase({ sql: filler(4) });
    await using restored = futureDatabase();
    await using folder = await makeTempDirectory();
    const config = folder.join('pgark.yaml');
    const configure = async (defaults: Readonly<Record<string, unknown>>): Promise<void> => {
      const storages = { near: { type: 'file', path: folder.join('near') } };
      const jobs = { plain: { format: 'plain', compression: 'none' } };
      const databases = { shop: { url: database.url, jobs, globals: 'none' } };
      await writeFile(config, JSON.stringify({ version: 1, storages, databases, defaults }));
    };
    const durationMs = async (...args: readonly string[]): Promise<number> => {
      const beforeMs = performance.now();
      const result = await runPgark([...args, '--config', config], { env: {} });
      expectExit(result, 0);
      expect(result.stderr).not.toContain('carried out');
      return performance.now() - beforeMs;
    };
    await configure({ bandwidth: '1MiB/s' });
    // Four MiB of text take that long at the least, whatever the machine does besides.
    expect(await durationMs('backup')).toBeGreaterThan(3_700);
    expect(
      await durationMs('restore', 'latest', '--to-url', urlOf(restored.name), '--no-verify-first'),
    ).toBeGreaterThan(3_700);
  });

  test('is no storage that stands still', async () => {
    await using database = await createDatabase({ sql: filler(5) });
    await using bucket = await s3Destination('bucket');
    // Less than a part in ten seconds, in which the storage is given nothing.
    const throttle = new Throttle(MIB / 2, systemClock);
    const destination = { ...bucket.destination, store: throttledStore(bucket.destination.store, throttle) };
    await backUp(database, [{ destination }], { stallMs: 6_000 });
    expect(await backupsIn(bucket.store)).toEqual({ count: 1, leftovers: [] });
  });
});
