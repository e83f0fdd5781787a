import { writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import {
  expectExit,
  fileStorage,
  filler,
  s3Storage,
  startPgark,
  type Storage,
  substance,
  succeed,
  untilExit,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { postgresFacts, s3Facts } from '../support/facts.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

interface Scene extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly bucket: Storage;
  readonly folder: Storage;
  readonly storages: readonly Storage[];
  readonly s3: FaultProxy;
  readonly postgres: TcpProxy;
  /** The settings of a run; through the proxies, or as they are for a look at what there is. */
  readonly env: Record<string, string>;
  /** Of one whose leases end soon when nobody renews them. */
  readonly shortLease: Record<string, string>;
}

/** A configuration whose only job writes into a bucket and a directory. */
async function setScene(): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  const database = stack.use(await createDatabase({ sql: filler(17) }));
  const bucket = stack.use(await s3Storage());
  const folder = stack.use(await fileStorage());
  const s3 = stack.use(await startFaultProxy(s3Facts().endpoint));
  const postgres = stack.use(await startTcpProxy(postgresFacts()));
  const directory = stack.use(await makeTempDirectory());
  const s3Env = { ...bucket.env, S3_ENDPOINT: s3.endpoint };
  const configuration = {
    version: 1,
    storages: {
      bucket: { ...bucket.bucket.inFile(s3.endpoint), retry: { attempts: 2, delay: '10ms' } },
      folder: { type: 'file', path: folder.path },
    },
    databases: {
      shop: {
        url: urlOf(database.name, { port: postgres.port }),
        jobs: { all: { schedule: '@daily', format: 'plain', compression: 'none', to: ['bucket', 'folder'] } },
      },
    },
  };
  const writeSettings = async (name: string, more: object): Promise<Record<string, string>> => {
    const file = directory.join(name);
    await writeFile(file, JSON.stringify({ ...configuration, ...more }), { mode: 0o600 });
    return { PGARK_CONFIG: file };
  };
  return {
    database,
    bucket: { ...bucket, env: s3Env },
    folder,
    storages: [bucket, folder],
    s3,
    postgres,
    env: await writeSettings('pgark.yaml', {}),
    shortLease: await writeSettings('short-lease.yaml', { defaults: { lease_term: '8s' } }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** So many backups, each with its data, and nothing else of substance; no open upload. */
async function expectBackups(scene: Scene, storage: Storage, name: string, count: number): Promise<void> {
  const keys = await substance(storage);
  expect(keys.filter((key) => key.startsWith('.pgark/backups/'))).toHaveLength(count);
  expect(keys.filter((key) => key.endsWith('.sql'))).toHaveLength(count);
  expect(keys).toHaveLength(2 * count);
  expect(await storage.openUploads()).toEqual([]);
  if (count > 0) await succeed(['verify', '--deep', '--storage', name], scene.env);
}

describe.concurrent('pgark backup into two storages', () => {
  test('ends with 4 and says which failed and why, when one does', async () => {
    await using scene = await setScene();
    scene.s3.setFaults(({ operation, partNumber }) =>
      operation === 'UploadPart' && (partNumber ?? 0) > 1 ? { kind: 'cut-request', afterBytes: 1_000 } : undefined,
    );
    const result = await runPgark(['backup', '--output', 'json'], { env: scene.env });
    expectExit(result, 4);
    expect(result.stderr).toMatch(/no backup in bucket \(s3:\S+\): /);
    expect(JSON.parse(result.stdout)).toMatchObject({
      results: [
        { storage: 'bucket', state: 'failed', error: { code: 'store-unreachable' } },
        { storage: 'folder', state: 'committed' },
      ],
    });
    await expectBackups(scene, scene.bucket, 'bucket', 0);
    await expectBackups(scene, scene.folder, 'folder', 1);
    scene.s3.setFaults(() => undefined);
    expectExit(await runPgark(['backup'], { env: scene.env }), 0);
    await expectBackups(scene, scene.bucket, 'bucket', 1);
    await expectBackups(scene, scene.folder, 'folder', 2);
  });

  test('after SIGKILL in mid-stream the next run removes what the dead one left in both', async () => {
    await using scene = await setScene();
    const held = scene.postgres.holdAfter(12 * MIB);
    const run = startPgark(['backup'], { env: scene.shortLease });
    await held;
    await vi.waitUntil(async () => (await scene.bucket.openUploads()).length > 0, { timeout: 300_000 });
    await run.kill('SIGKILL');
    expect(await run.result).toMatchObject({ signal: 'SIGKILL' });
    for (const storage of scene.storages) {
      expect(await substance(storage)).toContainEqual(expect.stringMatching(/^\.pgark\/intents\//));
    }
    scene.postgres.release();
    // Each lease ends by the clock of its own storage: until both have, the run may be refused, or be partial.
    await untilExit(0, [4, 11], () => runPgark(['backup'], { env: scene.env }));
    for (const [name, storage] of [
      ['bucket', scene.bucket],
      ['folder', scene.folder],
    ] as const) {
      const keys = await substance(storage);
      expect(keys.filter((key) => key.startsWith('.pgark/intents/'))).toEqual([]);
      await expectBackups(scene, storage, name, keys.filter((key) => key.startsWith('.pgark/backups/')).length);
    }
  });

  test('a run that is stopped past its leases commits in none, and its successor in both', async () => {
    await using scene = await setScene();
    const held = scene.postgres.holdAfter(12 * MIB);
    const stopped = startPgark(['backup'], { env: scene.shortLease });
    await held;
    await stopped.kill('SIGSTOP');
    await untilExit(0, [4, 11], () => runPgark(['backup'], { env: scene.env }));
    const before = await Promise.all(scene.storages.map((storage) => substance(storage)));
    scene.postgres.release();
    await stopped.kill('SIGCONT');
    expectExit(await stopped.result, 11);
    expect(await Promise.all(scene.storages.map((storage) => substance(storage)))).toEqual(before);
    for (const [name, storage] of [
      ['bucket', scene.bucket],
      ['folder', scene.folder],
    ] as const) {
      const keys = await substance(storage);
      await expectBackups(scene, storage, name, keys.filter((key) => key.startsWith('.pgark/backups/')).length);
    }
  });

  test('SIGTERM in mid-stream ends it with 130 and leaves nothing in either', async () => {
    await using scene = await setScene();
    const held = scene.postgres.holdAfter(12 * MIB);
    const run = startPgark(['backup'], { env: scene.env });
    await held;
    await run.kill('SIGTERM');
    expectExit(await run.result, 130);
    await expectBackups(scene, scene.bucket, 'bucket', 0);
    await expectBackups(scene, scene.folder, 'folder', 0);
    scene.postgres.release();
    expectExit(await runPgark(['backup'], { env: scene.env }), 0);
    await expectBackups(scene, scene.bucket, 'bucket', 1);
  });
});
