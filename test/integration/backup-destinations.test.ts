import { Buffer } from 'node:buffer';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { isPgarkError } from '../../src/common/errors.ts';
import type { ByteStream } from '../../src/common/bytes.ts';
import type { DestinationOutcome } from '../../src/operations/backup.ts';
import { keys } from '../../src/repository/keys.ts';
import { filler } from '../support/backups.ts';
import {
  backUp,
  backupsIn,
  errorOf,
  fileDestination,
  keysOf,
  outcomesOf,
  recordsIn,
  s3Destination,
  type TestDestination,
} from '../support/destinations.ts';
import { postgresFacts } from '../support/facts.ts';
import type { Decide } from '../support/fault-proxy.ts';
import { GatedClock } from '../support/gated-clock.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

// Many connections side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

/** Counts only when all that moves has moved. */
const STALL_MS = 2_000;
const CLEAN = { leftovers: [] };

interface Scene extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly bucket: TestDestination;
  readonly folder: Omit<TestDestination, 'proxy'>;
}

/** Three parts of an upload. */
const DUMP_MIB = 17;

/** A database whose dump takes several parts, a bucket behind a proxy and a directory. */
async function setScene(): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  return {
    database: stack.use(await createDatabase({ sql: filler(DUMP_MIB) })),
    bucket: stack.use(await s3Destination('bucket')),
    folder: stack.use(await fileDestination('folder')),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

async function bytesIn(store: TestDestination['store'], key: string): Promise<Buffer> {
  const blocks: Uint8Array[] = [];
  const body: ByteStream = (await store.get(key)).body;
  for await (const block of body) blocks.push(Uint8Array.from(block));
  return Buffer.concat(blocks);
}

const parts: Decide = ({ operation, partNumber }) =>
  operation === 'UploadPart' && (partNumber ?? 0) > 1 ? { kind: 'cut-request', afterBytes: 1_000 } : undefined;
const silentParts: Decide = ({ operation, partNumber }) =>
  operation === 'UploadPart' && (partNumber ?? 0) > 1 ? { kind: 'silence' } : undefined;
const refusal: Decide = ({ operation }) =>
  operation === 'CreateMultipartUpload' || operation === 'PutObject'
    ? { kind: 'answer', status: 403, code: 'AccessDenied' }
    : undefined;
const refusedManifest: Decide = ({ operation, url }) =>
  operation === 'PutObject' && url.pathname.includes('/.pgark/backups/')
    ? { kind: 'answer', status: 403, code: 'AccessDenied' }
    : undefined;

describe.concurrent('a backup into several destinations', () => {
  test('is the same in each, byte for byte, with a record of the run in each', async () => {
    await using scene = await setScene();
    const { database, bucket, folder } = scene;
    await using other = await s3Destination('other');
    const outcome = await backUp(database, [bucket, folder, other], {
      seal: { compression: { algorithm: 'gzip', level: 1 } },
      readBack: true,
    });
    const outcomes = outcomesOf(outcome);
    expect(Object.keys(outcomes)).toEqual(['bucket', 'folder', 'other']);
    const manifests = Object.values(outcomes).map(({ manifest }) => manifest);
    const [first] = manifests;
    const key = first?.objects[0]?.key ?? '';
    const expected = { id: first?.id, runId: first?.runId, startedAt: first?.startedAt, key };
    for (const manifest of manifests) {
      const [object] = manifest?.objects ?? [];
      const { id, runId, startedAt } = manifest ?? {};
      expect({ id, runId, startedAt, key: object?.key }).toEqual(expected);
      expect(object?.storedSha256).toBe(first?.objects[0]?.storedSha256);
    }
    const bytes = await bytesIn(bucket.store, key);
    expect(bytes.length).toBeGreaterThan((DUMP_MIB * MIB) / 2);
    for (const { store } of [folder, other]) expect((await bytesIn(store, key)).equals(bytes)).toBe(true);
    for (const { store } of [bucket, folder, other]) {
      expect(await backupsIn(store)).toEqual({ count: 1, ...CLEAN });
      expect(await recordsIn(store)).toMatchObject([
        { id: first?.runId, state: 'succeeded', destinations: ['bucket', 'folder', 'other'] },
      ]);
    }
  });

  test.each([
    { fault: 'breaks in mid-upload', decide: parts, code: 'store-unreachable', state: 'failed' },
    { fault: 'goes silent in mid-upload', decide: silentParts, code: 'stalled', state: 'failed', stallMs: STALL_MS },
    { fault: 'refuses the manifest', decide: refusedManifest, code: 'store-access-denied', state: 'failed' },
    { fault: 'refuses from the start', decide: refusal, code: 'store-access-denied', state: undefined },
  ])(
    'is committed in one when the other $fault, where nothing stays',
    async ({ decide, code, state, stallMs = 900_000 }) => {
      await using scene = await setScene();
      const { database, bucket, folder } = scene;
      bucket.proxy.setFaults(decide);
      const told: string[] = [];
      const clock = new GatedClock();
      const onDestination = ({ name }: DestinationOutcome): void => {
        told.push(name);
        clock.open();
      };
      const outcomes = outcomesOf(await backUp(database, [bucket, folder], { stallMs, clock, onDestination }));
      expect(outcomes['bucket']).toMatchObject({ error: { code } });
      expect(outcomes['folder']?.manifest?.objects[0]?.plainBytes).toBeGreaterThan(DUMP_MIB * MIB);
      expect(told.toSorted()).toEqual(['bucket', 'folder']);
      expect(await backupsIn(folder.store)).toEqual({ count: 1, ...CLEAN });
      const [record] = await recordsIn(folder.store);
      expect(record?.state).toBe('succeeded');
      const inBucket = await recordsIn(bucket.store);
      expect(inBucket.map(({ id, state: ended, error }) => [id, ended, error?.code])).toEqual(
        state === undefined ? [] : [[record?.id, state, code]],
      );
      const { count, leftovers } = await backupsIn(bucket.store);
      // A manifest that may have arrived keeps its data: its intent is left for the next run to decide by.
      if (decide === refusedManifest) expect(leftovers).toHaveLength(2);
      else expect({ count, leftovers }).toEqual({ count: 0, ...CLEAN });
      bucket.proxy.setFaults(() => undefined);
      expect(outcomesOf(await backUp(database, [bucket, folder]))['bucket']?.error).toBeUndefined();
      for (const { store, expected } of [
        { store: bucket.store, expected: 1 },
        { store: folder.store, expected: 2 },
      ]) {
        expect(await backupsIn(store)).toEqual({ count: expected, ...CLEAN });
      }
    },
  );

  test('fails with the first error if every one fails, and leaves nothing anywhere', async () => {
    await using scene = await setScene();
    const { database, bucket } = scene;
    await using other = await s3Destination('other');
    bucket.proxy.setFaults(silentParts);
    other.proxy.setFaults(parts);
    const told = new Map<string, string | undefined>();
    const clock = new GatedClock();
    const onDestination = ({ name, error: own }: DestinationOutcome): void => {
      told.set(name, own?.code);
      clock.open();
    };
    const error = await errorOf(backUp(database, [bucket, other], { stallMs: STALL_MS, clock, onDestination }));
    expect(error.code).toBe('store-unreachable');
    expect(Object.fromEntries(told)).toEqual({ bucket: 'stalled', other: 'store-unreachable' });
    for (const { store } of [bucket, other]) {
      expect(await backupsIn(store)).toEqual({ count: 0, ...CLEAN });
      expect((await recordsIn(store)).map(({ state }) => state)).toEqual(['failed']);
    }
  });

  test('fails everywhere when the dump breaks, and leaves nothing anywhere', async () => {
    await using scene = await setScene();
    const { database, bucket, folder } = scene;
    await using postgres = await startTcpProxy(postgresFacts());
    const held = postgres.holdAfter(12 * MIB);
    const failing = errorOf(backUp(database, [bucket, folder], { port: postgres.port }));
    (await held).cut();
    expect((await failing).code).toBe('postgres-unreachable');
    for (const { store } of [bucket, folder]) {
      expect(await backupsIn(store)).toEqual({ count: 0, ...CLEAN });
      expect(await recordsIn(store)).toMatchObject([{ state: 'failed', error: { code: 'postgres-unreachable' } }]);
    }
  });

  test('goes on elsewhere when another run has taken the lease of one, which commits nothing', async () => {
    await using scene = await setScene();
    const { database, bucket, folder } = scene;
    await using postgres = await startTcpProxy(postgresFacts());
    const held = postgres.holdAfter(12 * MIB);
    const running = backUp(database, [bucket, folder], { port: postgres.port, leaseTermMs: 10_000 });
    await held;
    const key = keys.lease(`shop/${database.name}`);
    const lease = JSON.parse((await bytesIn(bucket.store, key)).toString('utf8')) as Record<string, unknown>;
    const stolen = { ...lease, token: 'another', until: new Date(Date.now() + 5_000).toISOString() };
    await bucket.store.putSmall(key, Buffer.from(JSON.stringify(stolen)));
    postgres.release();
    const outcomes = outcomesOf(await running);
    expect(outcomes['bucket']?.error?.code).toBe('lease-lost');
    expect(outcomes['folder']?.error).toBeUndefined();
    expect(await backupsIn(folder.store)).toEqual({ count: 1, ...CLEAN });
    expect((await backupsIn(bucket.store)).count).toBe(0);
  });

  test('passes over one that another run holds, and one where the name is taken', async () => {
    await using scene = await setScene();
    const { database, bucket, folder } = scene;
    await using other = await fileDestination('other');
    const now = Date.now();
    for (let second = 0; second < 100; second += 1) {
      const time = new Date(now + second * 1_000).toISOString().replace(/\.\d+Z$/, 'Z');
      await folder.store.putSmall(`dump_${time}.sql`, Buffer.from('somebody else’s'));
    }
    const others = await keysOf(folder.store, 'dump_');
    const leaseKey = keys.lease(`shop/${database.name}`);
    await backUp(database, [other]);
    const lease = JSON.parse((await bytesIn(other.store, leaseKey)).toString('utf8')) as Record<string, unknown>;
    const held = { ...lease, released: false, until: new Date(Date.now() + 60_000).toISOString() };
    await other.store.putSmall(leaseKey, Buffer.from(JSON.stringify(held)));
    const nameTemplate = 'dump_{YYYY-MM-DDTHH:MM:SSZ}';
    const outcomes = outcomesOf(await backUp(database, [other, folder, bucket], { nameTemplate }));
    expect([outcomes['other']?.error?.code, outcomes['folder']?.error?.code]).toEqual(['locked', 'object-exists']);
    expect(outcomes['bucket']?.error).toBeUndefined();
    expect(await backupsIn(folder.store)).toEqual({ count: 0, leftovers: others });
    expect(await backupsIn(bucket.store)).toEqual({ count: 1, ...CLEAN });
    expect(await backupsIn(other.store)).toEqual({ count: 1, ...CLEAN });
  });

  test('tells of the server, not of the storages, if both are wrong; and of each storage in a dry run', async () => {
    await using scene = await setScene();
    const { database, bucket, folder } = scene;
    bucket.proxy.setFaults(refusal);
    const outcome = await backUp(database, [bucket, folder], { dryRun: true });
    expect(outcome).toMatchObject({ kind: 'checked', destinations: [{ name: 'bucket' }, { name: 'folder' }] });
    expect(outcome.destinations.map(({ error }) => error?.code)).toEqual(['store-access-denied', undefined]);
    expect(await keysOf(folder.store)).toEqual([]);
    const error = await errorOf(backUp(database, [bucket, folder], { port: 1 }));
    expect(isPgarkError(error, 'postgres-unreachable')).toBe(true);
  });
});
