import { execFileSync } from 'node:child_process';
import { Client } from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { startThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import {
  expectFailure,
  expectRestores,
  expectUntouched,
  fileStorage,
  filler,
  s3Storage,
  SHORT_LEASE,
  startPgark,
  substance,
  succeed,
  type Storage,
  urlOf,
} from '../support/backups.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

/** Pids of the running pg_dump processes below a process. */
function pgDumpsOf(pid: number): number[] {
  const table = execFileSync('ps', ['-eo', 'pid=,ppid=,comm='], { encoding: 'utf8' });
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, parent, name]) => Number(parent) === pid && name === 'pg_dump')
    .map(([own]) => Number(own));
}

function killDumpOf(pid: number): void {
  const dumps = pgDumpsOf(pid);
  expect(dumps).toHaveLength(1);
  for (const each of dumps) process.kill(each, 'SIGKILL');
}

interface Scene extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly storage: Storage;
  readonly proxy: TcpProxy;
  /** The settings with the proxy between pgark and the server. */
  readonly env: Record<string, string>;
  /** Everything of substance in the storage after the first, good backup. */
  readonly before: readonly string[];
}

/** A database of some MiB with one good backup; further runs go through the proxy. */
/** Systems hold up to 36 MiB of a connection that nobody reads: a server that has more to send than that is stuck for certain. */
const MORE_THAN_SYSTEMS_HOLD = 56;

async function setScene(makeStorage: () => Promise<Storage>, mebibytes = 24): Promise<Scene> {
  const stack = new AsyncDisposableStack();
  const database = stack.use(await createDatabase({ sql: filler(mebibytes) }));
  const storage = stack.use(await makeStorage());
  const proxy = stack.use(await startTcpProxy(postgresFacts()));
  const common = { ...storage.env, BACKUP_COMPRESSION: 'none' };
  await succeed(['backup'], { ...common, DATABASE_URL: database.url });
  return {
    database,
    storage,
    proxy,
    env: { ...common, DATABASE_URL: urlOf(database.name, { port: proxy.port }) },
    before: await substance(storage),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

interface Harm {
  readonly scene: Scene;
  readonly pid: number;
}

interface Fault {
  readonly name: string;
  readonly makeStorage: () => Promise<Storage>;
  readonly harm: (harm: Harm) => Promise<void>;
  readonly message: RegExp;
  readonly hint: RegExp;
  readonly lease?: Record<string, string>;
  /** Whether the server is to be in the midst of it too. */
  readonly untaken?: boolean;
}

const faults: readonly Fault[] = [
  {
    name: 'pg_dump is killed, which ends its output without an error',
    makeStorage: s3Storage,
    harm: async ({ pid }: Harm) => killDumpOf(pid),
    message: /dump of .* failed: pg_dump was killed by SIGKILL/,
    hint: /run the backup again/,
  },
  {
    name: 'pg_dump is killed, and the storage is a directory',
    makeStorage: fileStorage,
    harm: async ({ pid }: Harm) => killDumpOf(pid),
    message: /dump of .* failed: pg_dump was killed by SIGKILL/,
    hint: /run the backup again/,
  },
  {
    name: 'the server ends pg_dump’s session, and it exits with 1',
    makeStorage: s3Storage,
    harm: async ({ scene }: Harm) => {
      await scene.database.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'pgark backup %'`,
      );
      scene.proxy.release();
    },
    message: /pg_dump exited with 1: .*(terminating connection|server closed the connection)/,
    hint: /server went away.*run the backup again/,
    untaken: true,
  },
  {
    name: 'all connections to the server are reset',
    makeStorage: fileStorage,
    harm: async ({ scene }: Harm) => scene.proxy.cutAll(),
    message: /pg_dump exited with 1: /,
    hint: /server went away.*run the backup again/,
  },
  {
    name: 'the network goes silent, and no connection ends',
    makeStorage: fileStorage,
    harm: async ({ scene }: Harm) => scene.proxy.mute(),
    message: /connection that guards the backup of .* is lost: the server has not answered for 8 s/,
    hint: /network between/,
    lease: SHORT_LEASE,
  },
];

describe.concurrent('when the dump breaks in mid-stream, nothing of it stays, earlier backups restore, and the next one succeeds', () => {
  test.each(faults)('$name', async ({ makeStorage, harm, message, hint, lease = {}, untaken = false }) => {
    await using scene = await setScene(makeStorage, untaken ? MORE_THAN_SYSTEMS_HOLD : undefined);
    const held = scene.proxy.holdAfter(10 * MIB, { untaken });
    const run = startPgark(['backup'], { env: { ...scene.env, ...lease } });
    await held;
    await harm({ pid: await run.pid, scene });
    expectFailure(await run.result, { exit: 1, message, hint });
    await expectUntouched(scene.storage, scene.before);
    if (makeStorage === s3Storage) {
      await expectRestores(scene.database, scene.storage);
      return;
    }
    const next = await succeed(['backup'], { ...scene.env, DATABASE_URL: scene.database.url });
    expect(next.stderr).not.toMatch(/dead run|took over/);
    expect(await substance(scene.storage)).toHaveLength(scene.before.length + 2);
  });

  test('pg_dump fails with the very last bytes of the data', async () => {
    await using scene = await setScene(s3Storage);
    await succeed(['backup'], scene.env);
    const before = await substance(scene.storage);
    const held = scene.proxy.holdAfter(scene.proxy.mostFromServer - 256);
    const run = startPgark(['backup'], { env: scene.env });
    (await held).cut();
    expectFailure(await run.result, { exit: 1, message: /pg_dump exited with 1: /, hint: /run the backup again/ });
    await expectUntouched(scene.storage, before);
  });

  test('the server is stopped', async () => {
    await using server = await startThrowawayServer({ listen: 'tcp' });
    await using proxy = await startTcpProxy(server);
    await using storage = await s3Storage();
    const client = new Client({ connectionString: server.url().reveal() });
    await client.connect();
    await client.query(filler(MORE_THAN_SYSTEMS_HOLD));
    await client.end();
    const url = new URL(server.url().reveal());
    url.port = String(proxy.port);
    const held = proxy.holdAfter(9 * MIB, { untaken: true });
    const run = startPgark(['backup'], { env: { ...storage.env, DATABASE_URL: url.href } });
    await held;
    await server.stop();
    proxy.release();
    expectFailure(await run.result, {
      exit: 1,
      message: /dump of .* failed: pg_dump exited with 1: .*/,
      hint: /server went away.*run the backup again/,
    });
    await expectUntouched(storage, []);
  });
});

describe.concurrent('a signal in mid-stream', () => {
  test.each([
    ['SIGTERM', s3Storage],
    ['SIGINT', fileStorage],
  ] as const)('%s ends the backup with 130 and leaves nothing', async (signal, makeStorage) => {
    await using scene = await setScene(makeStorage);
    const held = scene.proxy.holdAfter(10 * MIB);
    const run = startPgark(['backup'], { env: scene.env });
    await held;
    await run.kill(signal);
    expectFailure(await run.result, {
      exit: 130,
      message: /interrupted; nothing half-done was kept/,
      hint: /run .* again/,
    });
    await expectUntouched(scene.storage, scene.before);
    // The lease was given back and the lock let go: nobody has to wait.
    await succeed(['backup'], { ...scene.env, DATABASE_URL: scene.database.url });
  });
});
