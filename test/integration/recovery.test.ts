import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { targetAt, targetAtLsn } from '../../src/operations/recovery/recovery-target.ts';
import { restoreOutOfBase } from '../../src/operations/recovery/restore-out-of-base.ts';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { operationContext } from '../../src/operations/context.ts';
import type { DirectoryRestoreOutcome, RecoveryRequest } from '../../src/operations/restore-directory.ts';
import { walStatus } from '../../src/operations/wal/status.ts';
import { freePort } from '../../src/postgres/server/free-port.ts';
import { parseServerTime } from '../../src/postgres/wal/server-time.ts';
import { runPgark } from '../support/cli.ts';
import { ArchivedServer, DEFAULT_PREFIX } from '../support/archived-server.ts';
import type { Cluster } from '../support/cluster.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { errorOf } from '../support/destinations.ts';
import { RestoredServer, type ServerFolder } from '../support/physical.ts';
import { archiveLoad, fetchFrom, restoreTo, type WrittenRow } from '../support/recovery-world.ts';
import type { TestBucket } from '../support/s3.ts';
import { NO_KEYS } from '../support/wal-receiving.ts';

type Target = RecoveryRequest['target'];

let archived: ArchivedServer;
let cluster: Cluster;
let folder: ServerFolder;
let bucket: TestBucket;
let store: ObjectStore;
let rows: readonly WrittenRow[];
/** How many of them were there when the backup had ended; 2,000 are behind it. */
let rowsBefore: number;

beforeAll(async () => {
  archived = await ArchivedServer.start();
  ({ cluster, folder, bucket, store } = archived);
  const receiving = await archived.receive();
  await cluster.sql('create extension amcheck; create table beside (n int)');
  // As some packages do. A restored server must not go back there, where another one runs.
  await cluster.configure({ data_directory: cluster.dataDirectory, log_min_messages: 'fatal' });
  ({ rows, rowsBefore } = await archiveLoad(cluster, receiving, {
    backUp: () => archived.backUp(),
    more: 2_000,
  }));
});
afterAll(() => archived[Symbol.asyncDispose]());

/** Where a restore to there would recover to; nothing is restored. */
async function planned(target: Target, changes: Partial<RecoveryRequest> = {}): Promise<DirectoryRestoreOutcome> {
  return restoreTo(store, folder.join('planned'), target, bucket.env, { ...changes, planOnly: true });
}

/** The rows that a recovery brings back: 1 up to a last one. */
async function recovered(name: string, target: Target): Promise<number> {
  const data = folder.join(name);
  await restoreTo(store, data, target, bucket.env);
  const server = await folder.start(data);
  const [found] = await server.sql<{ count: string; max: number }>('select count(*), max(n) from numbered');
  await folder.stop(data);
  expect(found?.count).toBe(String(found?.max));
  return found?.max ?? 0;
}

describe('a recovery', { timeout: 480_000 }, () => {
  test('goes to the end of what is archived, from a backup and into a server that PostgreSQL finds sound', async () => {
    const data = folder.join('end');
    await restoreTo(store, data, { kind: 'end' }, bucket.env);
    // In which the directory of the old server is a comment now.
    expect(await folder.run('pg_verifybackup', ['-i', 'postgresql.conf', data])).toContain(
      'backup successfully verified',
    );
    const server = await folder.start(data);
    const [found] = await server.sql('select count(*)::int as count, max(n) from numbered');
    expect(found).toEqual({ count: rows.length, max: rows.length });
    const login = ['-h', '127.0.0.1', '-p', String(server.port), '-U', 'postgres'];
    await folder.run('pg_amcheck', [...login, '--all', '--heapallindexed']);
    await folder.stop(data);
  });

  test.each<[string, (row: WrittenRow) => Target]>([
    ['position', ({ lsn }) => targetAtLsn(lsn)],
    ['moment', ({ time }) => targetAt(new Date(time), Number(time.slice(23, 26)))],
    ['transaction', ({ xid }) => ({ kind: 'xid', xid })],
    ['restore-point', ({ restorePoint }) => ({ kind: 'restore-point', name: restorePoint ?? '' })],
  ])('to a %s brings back what was committed by then', async (kind, targetOf) => {
    const row = rows.find(({ n, restorePoint }) => n > rowsBefore + 1_000 && restorePoint !== undefined);
    expect(row).toBeDefined();
    if (row !== undefined) expect(await recovered(kind, targetOf(row))).toBe(row.n);
  });
});

describe('a recovery that is asked for', { timeout: 480_000 }, () => {
  /** One that was written behind the backup, however many were written while that was made. */
  const row = (n: number): WrittenRow => rowAt(rowsBefore + n);
  const rowAt = (n: number): WrittenRow => {
    const found = rows[n - 1];
    if (found === undefined) throw new Error(`row ${n} was not written`);
    return found;
  };

  test('in an idle hour behind the last transaction goes to the end, up to when it is known that there was none', async () => {
    const [status] = await walStatus({ store, source: 'main' }, operationContext());
    const covered = parseServerTime(status?.record.head?.serverTime ?? '');
    const { recovery } = await planned({ kind: 'time', time: covered });
    expect(recovery?.stop.inclusive).toBe(true);
    expect(recovery?.stop.lsn).toBe((await planned({ kind: 'end' })).recovery?.stop.lsn);
    // The last piece may know of a later moment than the note, but of none that is to come.
    const error = await errorOf(planned(targetAt(new Date(Date.now() + 3_600_000))));
    expect(error).toMatchObject({ code: 'outside-window', message: expect.stringContaining('is not possible') });
  });

  test.each<[string, () => Target, Partial<RecoveryRequest>, string]>([
    ['before its base backup was complete', () => targetAtLsn(rowAt(5).lsn), {}, 'outside-window'],
    ['behind what is archived', () => targetAtLsn('FF/0'), {}, 'outside-window'],
    ['at a moment before its base backup', () => targetAt(new Date(rowAt(5).time)), {}, 'outside-window'],
    ['after a transaction that is nowhere', () => ({ kind: 'xid', xid: 3 }), {}, 'outside-window'],
    ['at a restore point of another name', () => ({ kind: 'restore-point', name: 'nowhere' }), {}, 'outside-window'],
    ['on a timeline that is not archived', () => ({ kind: 'end' }), { timeline: 7 }, 'wal-unknown'],
  ])('%s is refused, with what can be had', async (_, target, changes, code) => {
    const error = await errorOf(planned(target(), changes));
    expect(error.code).toBe(code);
    if (code === 'outside-window') expect(error.hint).toMatch(/--lsn 0\/[0-9A-F]+/);
  });

  test('over a segment that is missing is refused, with the last point before it', async () => {
    const { recovery } = await planned({ kind: 'end' });
    const key = await segmentAmid(row(1_000).lsn);
    const content = await bucket.get(key);
    await store.delete(key.slice(DEFAULT_PREFIX.length + 1));
    try {
      const error = await errorOf(planned({ kind: 'end' }));
      expect(error).toMatchObject({ code: 'wal-gap', hint: expect.stringMatching(/--lsn 0\/[0-9A-F]+00000$/) });
      const before = await planned(targetAtLsn(error.hint.replace(/.*--lsn /, '')));
      expect(before.recovery?.stop.lsn).toBeLessThan(recovery?.stop.lsn ?? 0n);
    } finally {
      await bucket.put(key, content);
    }
  });

  test('over a damaged object is refused by its name, or fails by it, and never ends early', async () => {
    const segment = await segmentAmid(row(1_000).lsn);
    const [base = ''] = (await bucket.listKeys()).filter((key) => key.endsWith('base.tar.zst'));
    const data = folder.join('damaged');
    for (const key of [segment, base]) {
      const content = await bucket.get(key);
      const damaged = Buffer.from(content);
      const at = Math.floor(content.length / 2);
      damaged.writeUInt8(damaged.readUInt8(at) ^ 0x10, at);
      await bucket.put(key, damaged);
      try {
        const name = key.slice(DEFAULT_PREFIX.length + 1);
        const error = await errorOf(restoreTo(store, data, { kind: 'end' }, bucket.env));
        expect(error).toMatchObject({ code: 'corrupt', message: expect.stringContaining(name) });
        expect(await readdir(folder.path)).not.toContain('damaged');
        if (key === base) continue;
        const changes = { verifyFirst: false, start: { binDir: cluster.binDir }, port: await freePort() };
        const late = await errorOf(restoreTo(store, data, { kind: 'end' }, bucket.env, changes));
        expect(late).toMatchObject({ code: 'recovery-failed', message: expect.stringContaining(name) });
        await folder.remove(data);
      } finally {
        await bucket.put(key, content);
      }
    }
  });

  test('from the command line with --start ends when the server is a primary, and says what is in it', async () => {
    const data = folder.join('started');
    const { n, lsn } = row(777);
    const args = ['--to-dir', data, '--lsn', lsn, '--start', '--port', String(await freePort())];
    const result = await runPgark(['-o', 'json', 'restore', ...args], { env: bucket.env });
    expect([result.exitCode, result.stderr]).toEqual([0, expect.not.stringContaining('error')]);
    const { server, recovery } = JSON.parse(result.stdout) as Record<string, Record<string, unknown>>;
    expect(recovery).toMatchObject({ timeline: 1, lsn, inclusive: false });
    expect(server?.['last_transaction']).toMatch(/^\d{4}-\d\d-\d\dT.*\.\d{6}Z$/);
    const running = folder.adopt(data, Number(server?.['port']));
    expect(await running.value('select max(n) from numbered')).toBe(String(n));
    expect(await running.value('select pg_is_in_recovery()')).toBe('false');
    // Nothing is left of how it got there, and no secret.
    expect(await readdir(path.join(data, 'pg_wal'))).not.toContain('pgark');
    const settings = await readFile(path.join(data, 'postgresql.auto.conf'), 'utf8');
    expect(settings).not.toContain(bucket.env['S3_SECRET_ACCESS_KEY']);
    // As the primary's pg_control has it.
    expect(settings).toContain(`max_connections = '100'\nmax_worker_processes = '8'\nmax_wal_senders = '10'\n`);
    await folder.stop(data);
  });

  test('for one table gives that table alone, as it was then, and leaves nothing of the server', async () => {
    const { n, lsn } = row(500);
    const work = folder.join('work');
    await folder.makeFolder(work);
    const outcome = await restoreOutOfBase(
      {
        base: {
          store,
          filter: {},
          selector: { kind: 'latest' },
          keys: NO_KEYS,
          recovery: { target: targetAtLsn(lsn), fetch: fetchFrom(bucket.env) },
        },
        database: 'postgres',
        users: ['nobody', 'postgres'],
        workFolder: work,
        openWork: async (root) => new FileStore({ root, clock: systemClock, random: systemRandom }),
        binDir: cluster.binDir,
        load: {
          target: { kind: 'database', connection: { ...cluster.connection, database: 'rescued' }, clean: false },
          verifyFirst: undefined,
          selection: {
            tables: ['numbered'],
            schemas: [],
            sections: [],
            excluding: { tables: [], schemas: [], tableData: [] },
            renames: [],
          },
          analyse: false,
          planOnly: false,
        },
      },
      operationContext(),
    );
    expect(outcome.loaded).toMatchObject({ done: true, database: 'rescued' });
    const rescued = new RestoredServer(cluster.port);
    expect(await rescued.sql('select count(*)::int as count, max(n) from numbered', 'rescued')).toEqual([
      { count: n, max: n },
    ]);
    expect(await rescued.value(`select count(*) from pg_tables where schemaname = 'public'`, 'rescued')).toBe('1');
    expect(await readdir(work)).toEqual([]);
  });

  /** The key of the whole segment that holds a position. */
  async function segmentAmid(lsn: string): Promise<string> {
    const name = await cluster.value(`select pg_walfile_name('${lsn}')`);
    const [key] = (await bucket.listKeys(DEFAULT_PREFIX)).filter((each) => each.endsWith(`${name}.zst`));
    if (key === undefined) throw new Error(`${name} is not archived whole`);
    return key;
  }
});
