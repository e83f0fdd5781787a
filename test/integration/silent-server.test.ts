import { describe, expect, test } from 'vitest';
import { openStore } from '../../src/app.ts';
import { Secret } from '../../src/common/secret.ts';
import { backupGlobals } from '../../src/operations/backup-globals.ts';
import { type OperationContext, operationContext } from '../../src/operations/context.ts';
import { examineSource } from '../../src/operations/doctor.ts';
import { connect } from '../../src/postgres/client/connect.ts';
import { keys } from '../../src/repository/keys.ts';
import { resolveDatabases } from '../../src/service/databases.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { fileStorage, type Storage, untilActivity, urlOf } from '../support/backups.ts';
import { startDaemon } from '../support/daemon.ts';
import { errorOf } from '../support/destinations.ts';
import { postgresFacts } from '../support/facts.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { createDatabase } from '../support/postgres.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

/** Less than a server says before the first query, and more than it says before it knows the password. */
const GREETING_BYTES = 350;
/** More than anything takes on a busy machine. */
const STALL_MS = 12_000;
const LIMIT_MS = 15 * 60_000;
const STARTED = new Date('2026-11-20T02:00:00Z');

function connectionThrough({ port }: TcpProxy, database = 'postgres') {
  const { host, user, password } = postgresFacts();
  return { host, port, user, password: new Secret(password), database, sslMode: 'disable' } as const;
}

async function openFolder({ path }: Storage & { readonly path: string }): Promise<ObjectStore> {
  const retry = { retriesMax: 0, delayMs: 1, delayMsMax: 1 };
  return openStore({ type: 'file', name: 'folder', path, retry });
}

async function globalsOf(
  proxy: TcpProxy,
  store: ObjectStore,
  context: OperationContext,
  { database, stallMs }: { readonly database?: string; readonly stallMs?: number } = {},
): Promise<unknown> {
  return backupGlobals(
    {
      source: 'main',
      connection: connectionThrough(proxy, database),
      store,
      seal: { compression: { algorithm: 'none', level: 0 } },
      passwords: 'auto',
      leaseTermMs: 60_000,
      prune: false,
      ...(stallMs === undefined ? {} : { stallMs }),
    },
    context,
  );
}

/** What there is of globals, finished or not. */
async function globalsIn(storage: Storage): Promise<string[]> {
  return (await storage.keys()).filter((key) => /globals\/|intents\//.test(key));
}

/** Lets time pass until there is an answer, whenever it began to be waited for. */
async function inTime<Result>(clock: ManualClock, answer: Promise<Result>): Promise<Result> {
  const notYet = Symbol();
  for (;;) {
    const result = await Promise.race([answer, clock.advance(LIMIT_MS).then((): typeof notYet => notYet)]);
    if (result !== notYet) return result;
  }
}

/** What a server is asked before there is anything to move. */
const QUESTIONS: readonly (readonly [
  title: string,
  ask: (proxy: TcpProxy, store: ObjectStore, context: OperationContext, database?: string) => Promise<unknown>,
])[] = [
  [
    'for its databases',
    (proxy, _, context, database) =>
      resolveDatabases(
        {
          name: 'main',
          connection: connectionThrough(proxy, database),
          databases: ['*'],
          globals: 'none',
          protection: 'normal',
          jobs: new Map(),
          notify: [],
        },
        context,
      ),
  ],
  [
    'for what its globals are',
    (proxy, store, context, database = 'postgres') => globalsOf(proxy, store, context, { database }),
  ],
];

describe.concurrent('a server that takes a connection and gives no answer', () => {
  test.each(QUESTIONS)('asked %s: is given up after the limit', async (_, ask) => {
    await using folder = await fileStorage();
    await using proxy = await startTcpProxy(postgresFacts());
    const clock = new ManualClock(STARTED);
    const held = proxy.holdAfter(GREETING_BYTES);
    const asked = errorOf(ask(proxy, await openFolder(folder), operationContext({ clock })));
    await held;
    expect(await inTime(clock, asked)).toMatchObject({
      code: 'stalled',
      message: expect.stringContaining('took a connection, then gave no answer for 15'),
    });
    expect(await globalsIn(folder)).toEqual([]);
  });

  test.each(QUESTIONS)('asked %s: is left when the work is to end', async (_, ask) => {
    await using folder = await fileStorage();
    await using database = await createDatabase({ name: 'silent' });
    await using proxy = await startTcpProxy(postgresFacts());
    const end = new AbortController();
    const reason = new Error('it is time to end');
    void proxy.holdAfter(GREETING_BYTES);
    const asked = ask(proxy, await openFolder(folder), operationContext({ signal: end.signal }), database.name);
    const outcome = asked.catch((error: unknown) => error);
    // The login is over, and something was asked.
    await untilActivity(database, `application_name LIKE 'pgark %' AND query <> ''`);
    end.abort(reason);
    expect([reason, expect.objectContaining({ code: 'interrupted' })]).toContainEqual(await outcome);
  });

  test('asked by a doctor: is told of after the limit', async () => {
    await using proxy = await startTcpProxy(postgresFacts());
    const clock = new ManualClock(STARTED);
    const held = proxy.holdAfter(GREETING_BYTES);
    const examined = examineSource(connectionThrough(proxy), operationContext({ clock }));
    await held;
    expect(await inTime(clock, examined)).toMatchObject([{ state: 'failed', error: { code: 'stalled' } }]);
  });

  test('and is to send its globals to pg_dumpall: is given up after the limit, and nothing is left', async () => {
    await using folder = await fileStorage();
    await using proxy = await startTcpProxy(postgresFacts());
    const store = new FaultyStore(await openFolder(folder), {
      after: ({ method, key }) => {
        if (method === 'putSmall' && key.startsWith(keys.intentsPrefix)) void proxy.holdAfter(GREETING_BYTES);
      },
    });
    expect(await errorOf(globalsOf(proxy, store, operationContext(), { stallMs: STALL_MS }))).toMatchObject({
      code: 'stalled',
      message: expect.stringMatching(/^pg_dumpall has sent nothing of \S+ for 12\.0 s/),
      hint: expect.stringMatching(/application_name "pgark globals \w{26}"/),
    });
    expect(await globalsIn(folder)).toEqual([]);
    proxy.release();
    await globalsOf(proxy, await openFolder(folder), operationContext());
    expect(await globalsIn(folder)).toHaveLength(2);
  });

  test('before the login is over: is left when the work is to end', async () => {
    await using proxy = await startTcpProxy(postgresFacts());
    proxy.mute();
    const end = new AbortController();
    const reason = new Error('it is time to end');
    const patient = { ...connectionThrough(proxy), connectTimeoutSeconds: 3_600 };
    const connecting = connect(patient, { applicationName: 'pgark test', signal: end.signal });
    // Once the proxy has taken the connection.
    setTimeout(() => end.abort(reason), 200);
    await expect(connecting).rejects.toBe(reason);
  });

  test('keeps no daemon from its end', async () => {
    await using folder = await fileStorage();
    await using proxy = await startTcpProxy(postgresFacts());
    const held = proxy.holdAfter(GREETING_BYTES);
    await using daemon = startDaemon({
      ...folder.env,
      DATABASE_URL: urlOf('postgres', { port: proxy.port }),
      BACKUP_SCHEDULE: '0 0 1 1 *',
    });
    await daemon.until('schedule.next');
    await held;
    await daemon.stop();
  });
});
