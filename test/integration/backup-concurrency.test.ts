import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import {
  expectExit,
  expectFailure,
  expectRestores,
  fileStorage,
  filler,
  s3Storage,
  SHORT_LEASE,
  startPgark,
  type Storage,
  substance,
  succeed,
  untilExit,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { postgresFacts, s3Facts } from '../support/facts.ts';
import { type ProxiedRequest, startFaultProxy } from '../support/fault-proxy.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

interface Scene extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly storage: Storage;
  readonly proxy: TcpProxy;
  readonly env: Record<string, string>;
  /** The settings of a run that goes through the proxy. */
  readonly slowEnv: Record<string, string>;
}

async function setScene(makeStorage: () => Promise<Storage>): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  const database = stack.use(await createDatabase({ sql: filler(12) }));
  const storage = stack.use(await makeStorage());
  const proxy = stack.use(await startTcpProxy(postgresFacts()));
  const env = {
    ...storage.env,
    DATABASE_URL: database.url,
    BACKUP_COMPRESSION: 'none',
  };
  const slowEnv = { ...env, DATABASE_URL: urlOf(database.name, { port: proxy.port }) };
  return { database, storage, proxy, env, slowEnv, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** Exactly so many backups, each whole; nothing else but bookkeeping; no upload. */
async function expectBackups(scene: Scene, count: number): Promise<void> {
  const keys = await substance(scene.storage);
  const manifests = keys.filter((key) => key.startsWith('.pgark/backups/'));
  const data = keys.filter((key) => key.endsWith('.sql'));
  expect(keys).toEqual([...manifests, ...data]);
  expect([manifests.length, data.length]).toEqual([count, count]);
  expect(await scene.storage.openUploads()).toEqual([]);
  await succeed(['verify', '--deep'], scene.env);
}

describe.concurrent('two backups of one database at once', () => {
  test('into one storage: the second says who is at it, and the first succeeds', async () => {
    await using scene = await setScene(s3Storage);
    const held = scene.proxy.holdAfter(9 * MIB);
    const first = startPgark(['backup'], { env: scene.slowEnv });
    await held;
    expectFailure(await runPgark(['backup'], { env: scene.env }), {
      exit: 11,
      message: new RegExp(
        `is held by \\S+ \\(pid ${await first.pid}\\) since \\S+Z for \`pgark backup\`, until \\S+Z$`,
      ),
      hint: /wait for run \w{26} to end/,
    });
    scene.proxy.release();
    expectExit(await first.result, 0);
    await expectBackups(scene, 1);
  });

  test('into two storages: the lock on the server keeps the second out', async () => {
    await using scene = await setScene(fileStorage);
    await using other = await fileStorage();
    const held = scene.proxy.holdAfter(9 * MIB);
    const first = startPgark(['backup'], { env: scene.slowEnv });
    await held;
    expectFailure(await runPgark(['backup'], { env: { ...scene.env, ...other.env } }), {
      exit: 11,
      message: /is being backed up since \S+Z from 127\.0\.0\.1, run \w{26}$/,
      hint: /wait for that run to end/,
    });
    expect(await substance(other)).toEqual([]);
    scene.proxy.release();
    expectExit(await first.result, 0);
    await expectBackups(scene, 1);
    await succeed(['backup'], { ...scene.env, ...other.env });
  });
});

describe.concurrent('a backup that is stopped for longer than its lease lives', () => {
  test.each([
    ['a bucket', s3Storage],
    ['a directory', fileStorage],
  ] as const)('in mid-dump, into %s: another takes its place, and it commits nothing', async (_place, makeStorage) => {
    await using scene = await setScene(makeStorage);
    const held = scene.proxy.holdAfter(9 * MIB);
    const stopped = startPgark(['backup'], { env: { ...scene.slowEnv, ...SHORT_LEASE } });
    await held;
    await stopped.kill('SIGSTOP');
    // Until its term is over it counts as alive.
    const successor = await untilExit(0, [11], () => runPgark(['backup'], { env: scene.env }));
    expect(successor.stderr).toMatch(/took over the lease .*, which \S+ \(pid \d+\) let expire at/);
    expect(successor.stderr).toMatch(/removed what the dead run \w{26} left/);
    await expectBackups(scene, 1);
    scene.proxy.release();
    await stopped.kill('SIGCONT');
    expectFailure(await stopped.result, { exit: 11, message: /lease .* is lost: /, hint: /run the command again/ });
    await expectBackups(scene, 1);
    await expectRestores(scene.database, scene.storage);
    const next = await succeed(['backup'], scene.env);
    expect(next.stderr).not.toMatch(/dead run/);
    await expectBackups(scene, 2);
  });

  test.each([
    {
      moment: 'the last request of its upload is on the way',
      isLate: ({ operation }: ProxiedRequest) => operation === 'CompleteMultipartUpload',
    },
    {
      moment: 'its manifest is on the way',
      isLate: ({ operation, url }: ProxiedRequest) =>
        operation === 'PutObject' && url.pathname.includes('/.pgark/backups/'),
    },
  ])('while $moment: that comes too late', async ({ isLate }) => {
    await using scene = await setScene(s3Storage);
    await using store = await startFaultProxy(s3Facts().endpoint);
    const reached = Promise.withResolvers<void>();
    const arrival = Promise.withResolvers<void>();
    store.setFaults((request) => {
      if (!isLate(request) || request.url.pathname.includes('/probe-')) return undefined;
      reached.resolve();
      return { kind: 'delay', until: arrival.promise };
    });
    const stopped = startPgark(['backup'], { env: { ...scene.env, ...SHORT_LEASE, S3_ENDPOINT: store.endpoint } });
    await reached.promise;
    await stopped.kill('SIGSTOP');
    await untilExit(0, [11], () => runPgark(['backup'], { env: scene.env }));
    await expectBackups(scene, 1);
    arrival.resolve();
    await store.idle();
    await stopped.kill('SIGCONT');
    expectFailure(await stopped.result, { exit: 11, message: /lease .* is lost: /, hint: /run the command again/ });
    await expectBackups(scene, 1);
    await expectRestores(scene.database, scene.storage);
    await succeed(['backup'], scene.env);
    await expectBackups(scene, 2);
  });
});
