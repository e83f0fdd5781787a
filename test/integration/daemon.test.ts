import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { operationContext } from '../../src/operations/context.ts';
import { listRuns } from '../../src/operations/list-runs.ts';
import {
  expectExit,
  expectRestores,
  filler,
  fileStorage,
  pgarkJson,
  s3Storage,
  SHORT_LEASE,
  startPgark,
  type Storage,
  substance,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { CONFIG, configFile, type LogLine, startDaemon, type TestDaemon } from '../support/daemon.ts';
import { postgresFacts, s3Facts } from '../support/facts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { openS3Store } from '../support/s3-store.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

async function leases(storage: Storage): Promise<{ readonly released: boolean }[]> {
  const keys = (await storage.keys()).filter((key) => key.startsWith('.pgark/leases/'));
  return Promise.all(
    keys.map(async (key) => JSON.parse((await storage.get(key)).toString()) as { readonly released: boolean }),
  );
}

const HOURLY = { BACKUP_INTERVAL: '1h', BACKUP_COMPRESSION: 'none' };

/** A daemon whose first backup stands still until the proxy is released. */
interface HeldBackup extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly proxy: TcpProxy;
  readonly daemon: TestDaemon;
  readonly connection: Awaited<ReturnType<TcpProxy['holdAfter']>>;
}

/** The backup is of about so many MiB, the last two of which are held. */
async function holdBackup(
  storage: Storage,
  mebibytes: number,
  env: Readonly<Record<string, string>>,
): Promise<HeldBackup> {
  await using made = new AsyncDisposableStack();
  const database = made.use(await createDatabase({ sql: filler(mebibytes) }));
  const proxy = made.use(await startTcpProxy(postgresFacts()));
  const DATABASE_URL = urlOf(database.name, { port: proxy.port });
  const daemon = made.use(startDaemon({ ...storage.env, ...HOURLY, ...env, DATABASE_URL }));
  const connection = await proxy.holdAfter((mebibytes - 2) * MIB);
  const all = made.move();
  return { database, proxy, daemon, connection, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

describe.concurrent('pgark daemon', () => {
  test('runs every job by its schedule, whatever becomes of the others, and tells each run', async () => {
    await using folder = await makeTempDirectory();
    await using storage = await fileStorage(folder.join('backups'));
    await using shop = await createDatabase({ sql: filler(1) });
    const password = `wrong-${randomBytes(8).toString('hex')}`;
    await configFile(folder.path, {
      shop: { url: shop.url, schedule: '2s' },
      broken: { url: urlOf(shop.name, { password }), schedule: '1s' },
    });
    await using daemon = startDaemon({}, CONFIG, { cwd: folder.path });
    await daemon.until('job.succeeded', { job: 'shop/often', count: 3 });
    await daemon.until('job.failed', { job: 'broken/often', count: 3 });
    await daemon.kill('SIGTERM');
    const { stderr, ...result } = await daemon.result;
    expectExit({ ...result, stderr }, 0);
    const ends = ['job.succeeded', 'job.failed', 'job.interrupted'];
    for (const job of ['shop/often', 'broken/often']) {
      const ended = daemon.lines.filter((line) => line.job === job && ends.includes(line.event));
      expect(ended).toHaveLength(daemon.of('job.started', job).length);
    }
    // A wrong password does not mend itself: each due time is tried once.
    expect(daemon.of('job.started', 'broken/often').every((line) => line['attempt'] === 1)).toBe(true);
    expect(daemon.of('backup.failed', 'broken/often')[0]).toMatchObject({ code: 'postgres-auth-failed' });
    for (const event of [
      'daemon.starting',
      'daemon.configuration',
      'connectivity.ok',
      'connectivity.failed',
      'schedule.next',
    ]) {
      expect(daemon.of(event).length).toBeGreaterThan(0);
    }
    expect(stderr).not.toContain(password);
    expect(stderr).not.toContain(postgresFacts().password);
    expect(stderr).toContain('[redacted]');
    await expectRestores(shop, storage, { env: { BACKUP_NAME: 'shop' } });
  });

  test('answers over HTTP while it runs', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase();
    await using daemon = startDaemon({ ...storage.env, DATABASE_URL: database.url });
    const [listening] = await daemon.until('http.listening');
    const url = `http://127.0.0.1:${String(listening?.['port'])}`;
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    await daemon.kill('SIGINT');
    expectExit(await daemon.result, 0);
  });

  test('lets a run end that needs less than the grace period', async () => {
    await using storage = await s3Storage();
    await using held = await holdBackup(storage, 4, { PGARK_STOP_GRACE: '5m' });
    const { daemon, database, proxy } = held;
    await daemon.kill('SIGTERM');
    await daemon.until('daemon.stopping');
    proxy.release();
    expectExit(await daemon.result, 0);
    expect(daemon.of('job.succeeded')).toHaveLength(1);
    await expectRestores(database, storage);
  });

  test('aborts a run that takes longer than the grace period: nothing half-done, no lease, and 0', async () => {
    await using storage = await s3Storage();
    await using held = await holdBackup(storage, 12, { PGARK_STOP_GRACE: '1s' });
    const { daemon } = held;
    await vi.waitUntil(async () => (await storage.openUploads()).length > 0, { timeout: 300_000 });
    await daemon.stop();
    expect(daemon.of('job.interrupted')).toHaveLength(1);
    expect(await substance(storage)).toEqual([]);
    expect(await storage.openUploads()).toEqual([]);
    const records = await leases(storage);
    expect(records.length).toBeGreaterThan(0);
    expect(records.filter(({ released }) => !released)).toEqual([]);
  });

  test('ends at once at a second signal', async () => {
    await using storage = await fileStorage();
    await using held = await holdBackup(storage, 4, { PGARK_STOP_GRACE: '1h' });
    const { daemon } = held;
    await daemon.kill('SIGTERM');
    await daemon.until('daemon.stopping');
    await daemon.kill('SIGTERM');
    expectExit(await daemon.result, 130);
  });

  test('does a run anew that a dead one had begun', async () => {
    await using storage = await s3Storage();
    await using held = await holdBackup(storage, 12, SHORT_LEASE);
    const { database, daemon: killed } = held;
    await vi.waitUntil(async () => (await storage.openUploads()).length > 0, { timeout: 300_000 });
    await killed.kill('SIGKILL');
    await killed.result;
    const [begun] = killed.of('job.started');
    const [dead] = killed.of('daemon.starting');

    const env = { ...storage.env, ...HOURLY, ...SHORT_LEASE };
    await using daemon = startDaemon({ ...env, DATABASE_URL: database.url });
    await daemon.until('job.succeeded');
    expect(daemon.of('job.started')).toMatchObject([{ dueAt: begun?.dueAt }]);
    await daemon.stop();
    expect(await storage.openUploads()).toEqual([]);
    expect((await substance(storage)).filter((key) => key.startsWith('.pgark/intents/'))).toEqual([]);
    await expectRestores(database, storage);
    // A record without a living lease is believed for two minutes.
    const store = openS3Store(storage.bucket.name);
    store.now = async () => new Date(Date.now() + 180_000);
    const request = {
      storages: [{ name: 'bucket', store }],
      since: new Date(0),
      state: undefined,
      filter: {},
      limit: 10,
    };
    const { runs } = await listRuns(request, operationContext());
    await store.close();
    expect(runs.filter(({ kind }) => kind === 'backup').map(({ state, pid }) => ({ state, pid }))).toEqual([
      { state: 'succeeded', pid: daemon.of('daemon.starting')[0]?.['pid'] },
      { state: 'interrupted', pid: dead?.['pid'] },
    ]);
  });

  test('tries again what failed for a reason that can pass', async () => {
    await using storage = await fileStorage();
    await using held = await holdBackup(storage, 4, { RETRY_DELAY: '1s' });
    const { daemon, database, proxy, connection } = held;
    connection.cut();
    proxy.release();
    await daemon.until('job.succeeded');
    expect(daemon.of('job.failed')).toMatchObject([{ level: 'ERROR', nextTryAt: expect.any(String) }]);
    expect(daemon.of('job.started').map((line) => line['attempt'])).toEqual([1, 2]);
    await daemon.stop();
    await expectRestores(database, storage);
  });

  test('tries again only in the storage that failed', async () => {
    await using folder = await makeTempDirectory();
    await using bucket = await s3Storage();
    await using near = await fileStorage(folder.join('near'));
    await using database = await createDatabase({ sql: filler(1) });
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    let isAway = true;
    proxy.setFaults(() => (isAway ? { kind: 'answer', status: 503, code: 'SlowDown' } : undefined));
    await writeFile(
      folder.join('pgark.yaml'),
      `version: 1
storages:
  far: ${JSON.stringify({ ...bucket.bucket.inFile(proxy.endpoint), retry: { attempts: 0 } })}
  near: { type: file, path: near }
defaults: { retry: { attempts: 50, delay: 1s, max_delay: 1s } }
databases:
  shop:
    url: ${JSON.stringify(database.url)}
    jobs: { often: { format: plain, schedule: 1h, to: [far, near] } }
`,
    );
    await using daemon = startDaemon({}, CONFIG, { cwd: folder.path });
    const [partial] = await daemon.until('job.partial');
    expect(partial).toMatchObject({ level: 'ERROR', state: 'partial', nextTryAt: expect.any(String) });
    isAway = false;
    await daemon.until('job.succeeded');
    await daemon.stop();
    const manifests = async (storage: Storage): Promise<number> =>
      (await storage.keys()).filter((key) => key.startsWith('.pgark/backups/')).length;
    expect(await manifests(near)).toBe(1);
    expect(await manifests(bucket)).toBe(1);
  });

  test('waits for a backup by hand that is at work on the same database', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ sql: filler(4) });
    await using proxy = await startTcpProxy(postgresFacts());
    const env = { ...storage.env, BACKUP_COMPRESSION: 'none' };
    const held = proxy.holdAfter(2 * MIB);
    const byHand = startPgark(['backup'], {
      env: { ...env, DATABASE_URL: urlOf(database.name, { port: proxy.port }) },
    });
    await held;
    // The interval counts from the last run, by hand too; and it looks again after a term, if that ends before it is due anew.
    const term = { BACKUP_LEASE_TERM: '10s', BACKUP_INTERVAL: '15s' };
    await using daemon = startDaemon({ ...env, ...term, DATABASE_URL: database.url });
    const [skipped] = await daemon.until('job.skipped');
    expect(skipped).toMatchObject({ level: 'INFO', state: 'locked', nextTryAt: expect.any(String) });
    proxy.release();
    expectExit(await byHand.result, 0);
    await daemon.until('job.succeeded');
    expect(daemon.of('job.failed')).toEqual([]);
    await daemon.stop();
  });

  test('does each due time once, however many hosts have the same configuration', async () => {
    await using storage = await s3Storage();
    await using database = await createDatabase({ sql: filler(1) });
    const env = { ...storage.env, DATABASE_URL: database.url, BACKUP_INTERVAL: '2s', BACKUP_RETENTION_DAYS: 'forever' };
    await using first = startDaemon(env);
    await using second = startDaemon(env);
    const daemons = [first, second];
    const of = (event: string): LogLine[] => daemons.flatMap((daemon) => daemon.of(event));
    const isSeen = () => of('job.succeeded').length >= 6 && of('job.skipped').length > 0;
    await vi.waitUntil(isSeen, { timeout: 300_000 });
    for (const daemon of daemons) await daemon.kill('SIGTERM');
    for (const daemon of daemons) expectExit(await daemon.result, 0);
    const due = of('job.started')
      .map(({ dueAt }) => Date.parse(dueAt ?? ''))
      .sort((a, b) => a - b);
    const gaps = due.slice(1).map((time, index) => time - (due[index] ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(2_000);
    expect(of('job.failed')).toEqual([]);
    const { storages } = await pgarkJson<{ storages: { backups: unknown[] }[] }>(['list'], env);
    expect(storages[0]?.backups).toHaveLength(of('job.succeeded').length);
  });
});

describe.concurrent('a daemon that cannot start', () => {
  const database = { DATABASE_URL: 'postgres://u:p@127.0.0.1:1/shop' };

  test.each([
    [1, 'settings that are missing', { DATABASE_URL: '' }, /DATABASE_URL/],
    [2, 'a schedule that is none', { ...database, BACKUP_SCHEDULE: '61 * * * *' }, /BACKUP_SCHEDULE/],
    [3, 'a storage that is none', { ...database, BACKUP_STORAGE: 'floppy' }, /BACKUP_STORAGE/],
    [1, 'an address that it cannot have', { ...database, PGARK_LISTEN: '203.0.113.1:80' }, /cannot listen/],
  ])('exits with %i for %s', async (exit, _title, env, message) => {
    const result = await runPgark(['daemon'], { env });
    expectExit(result, exit);
    expect(result.stderr).toMatch(message);
  });
});
