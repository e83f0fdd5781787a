import { describe, expect, test, vi } from 'vitest';
import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import { makeRunId } from '../../src/repository/ids.ts';
import { keys } from '../../src/repository/keys.ts';
import { compactRuns } from '../../src/runs/compact-runs.ts';
import { listRunRecords } from '../../src/runs/list-run-records.ts';
import { type RunRecord, serialiseRunRecord } from '../../src/runs/run-record.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import {
  expectExit,
  fileStorage,
  filler,
  pgarkJson,
  s3Storage,
  startPgark,
  succeed,
  urlOf,
} from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { postgresFacts } from '../support/facts.ts';
import { openFileStore } from '../support/file-place.ts';
import { createDatabase } from '../support/postgres.ts';
import { createBucket } from '../support/s3.ts';
import { openS3Store } from '../support/s3-store.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

/** Nobody asks this server. */
const NOWHERE = 'postgresql://nobody@192.0.2.1/shop';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

interface RunsJson {
  readonly runs: readonly {
    readonly id: string;
    readonly kind: string;
    readonly state: string;
    readonly database?: string;
    readonly duration_ms?: number;
    readonly storages: readonly {
      readonly result?: { readonly backup_id: string };
      readonly error?: { code: string };
    }[];
  }[];
  readonly has_more: boolean;
}

function recordOf(startedAt: Date, said: Partial<RunRecord> = {}): RunRecord {
  return {
    layout: 1,
    id: makeRunId(startedAt, systemRandom),
    kind: 'backup',
    state: 'succeeded',
    source: 'shop',
    database: 'shop',
    host: 'elsewhere',
    pid: 1,
    startedAt: startedAt.toISOString(),
    endedAt: new Date(startedAt.getTime() + 60_000).toISOString(),
    pgarkVersion: '0.0.0',
    ...said,
  };
}

async function write(store: ObjectStore, record: RunRecord): Promise<void> {
  await store.putSmall(keys.run(new Date(record.startedAt), record.id), serialiseRunRecord(record));
}

describe.each([
  ['S3', s3Storage],
  ['a directory', fileStorage],
] as const)('what ran is told by %s alone', (_name, makeStorage) => {
  test('with how it ended, and what it said', async () => {
    await using storage = await makeStorage();
    await using database = await createDatabase({ sql: filler(4) });
    await using proxy = await startTcpProxy(postgresFacts());
    const env = { ...storage.env, DATABASE_URL: database.url };
    await succeed(['backup'], env);
    const held = proxy.holdAfter(2 ** 20);
    const run = startPgark(['backup'], { env: { ...env, DATABASE_URL: urlOf(database.name, { port: proxy.port }) } });
    await held;
    const going = await pgarkJson<RunsJson>(['runs', '--state', 'running'], env);
    expect(going.runs).toMatchObject([{ kind: 'backup', state: 'running', database: database.name }]);
    await run.kill('SIGTERM');
    expectExit(await run.result, 130);
    const heldAgain = proxy.holdAfter(2 ** 20);
    const failing = startPgark(['backup'], {
      env: { ...env, DATABASE_URL: urlOf(database.name, { port: proxy.port }) },
    });
    await heldAgain;
    proxy.cutAll();
    const failure = await failing.result;
    expectExit(failure, 1);

    const { runs, has_more: hasMore } = await pgarkJson<RunsJson>(['runs', database.name], storage.env);
    expect(hasMore).toBe(false);
    expect(runs.map(({ kind, state }) => `${kind} ${state}`)).toEqual([
      'backup failed',
      'backup interrupted',
      'backup succeeded',
    ]);
    const [failed, interrupted, done] = runs;
    expect(done?.storages[0]?.result?.backup_id).toMatch(/^\d{8}T/);
    expect(failed?.storages[0]?.error?.code).toBe('postgres-unreachable');
    expect(failure.stderr).toContain(`\n  run  ${failed?.id}   log: pgark logs ${failed?.id}\n`);

    const log = await succeed(['logs', interrupted?.id ?? ''], storage.env);
    expect(log.stdout).toMatch(/ INFO backup started\n/);
    expect(log.stdout).toMatch(/ ERROR backup interrupted: .*\n {2}hint /);
    const failedLog = await succeed(['logs', failed?.id ?? ''], storage.env);
    expect(failedLog.stdout).toMatch(/ ERROR backup failed: .*\n {2}hint /s);
    // The beginning of an id is enough, and following a run that is over ends.
    const followed = await succeed(['logs', '-f', '-o', 'ndjson', done?.id.slice(0, 20) ?? ''], storage.env);
    const lines = followed.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { readonly event: string; readonly schema_version: number });
    expect(lines.every((line) => line.schema_version === 1)).toBe(true);
    expect(lines.map(({ event }) => event)).toEqual(
      expect.arrayContaining(['run.started', 'dump.started', 'backup.committed', 'run.ended']),
    );
    const secret = postgresFacts().password;
    const logs = (await storage.keys()).filter((key) => key.startsWith('.pgark/logs/'));
    expect(logs.length).toBeGreaterThanOrEqual(3);
    if (secret !== '') for (const key of logs) expect(String(await storage.get(key))).not.toContain(secret);
  });

  test('an unknown run is not found, and the table is one for people', async () => {
    await using storage = await makeStorage();
    await using database = await createDatabase({ sql: filler(1) });
    const env = { ...storage.env, DATABASE_URL: database.url };
    expect((await succeed(['runs'], storage.env)).stdout).toBe('no runs\n');
    await succeed(['backup'], env);
    const { runs } = await pgarkJson<RunsJson>(['runs', database.name], storage.env);
    const id = runs[0]?.id ?? '';
    const mistyped = `${id.slice(0, -1)}${id.endsWith('A') ? 'B' : 'A'}`;
    const unknown = await runPgark(['logs', mistyped], { env: storage.env });
    expectExit(unknown, 10);
    expect(unknown.stderr).toContain(`hint did you mean ${id}?`);
    const away = await runPgark(['backup'], { env: { ...env, DATABASE_URL: urlOf(database.name, { port: 1 }) } });
    expectExit(away, 1);
    const early = await pgarkJson<RunsJson>(['runs', database.name, '--state', 'failed'], storage.env);
    expect(early.runs).toMatchObject([{ storages: [{ error: { code: 'postgres-unreachable' } }] }]);
    expect(away.stderr).toContain(`\n  run  ${early.runs[0]?.id}   log: pgark logs ${early.runs[0]?.id}\n`);
    const table = (await succeed(['runs', database.name, '--state', 'succeeded', '--limit', '1'], env)).stdout.split(
      '\n',
    );
    expect(table[0]).toMatch(/^RUN +WHAT +STARTED +TOOK +STATE/);
    expect(table[1]).toContain(`${id}  backup ${database.name}`);
    for (const [flag, value] of [
      ['--limit', '0'],
      ['--since', 'yesterday'],
    ] as const) {
      expectExit(await runPgark(['runs', flag, value], { env: storage.env }), 2);
    }
  });

  test('a run whose process died long ago is shown as interrupted', async () => {
    const { store, env, dispose } = await openPlace(makeStorage === s3Storage);
    const { endedAt: _endedAt, ...open } = recordOf(new Date(Date.now() - HOUR_MS));
    await write(store, { ...open, state: 'running' });
    const { runs } = await pgarkJson<RunsJson>(['runs'], env);
    expect(runs).toMatchObject([{ state: 'interrupted' }]);
    expect(runs[0]?.duration_ms).toBeUndefined();
    await dispose();
  });

  test('pruning compacts what is old, two at once, and nobody sees a difference', async () => {
    const { store, env, dispose } = await openPlace(makeStorage === s3Storage);
    await store.putSmall(keys.repository, Buffer.from('{"layout": 1, "id": "x", "createdAt": "2026-01-01T00:00:00Z"}'));
    for (let n = 0; n < 60; n += 1) {
      const state = n % 7 === 0 ? 'failed' : 'succeeded';
      await write(store, recordOf(new Date(Date.now() - n * DAY_MS), { state }));
    }
    const since = new Date(Date.now() - 90 * DAY_MS);
    const all = ['runs', '--since', '90d', '--limit', '100'];
    const before = await listRunRecords(store, { since });
    const shown = await pgarkJson<RunsJson>(all, env);
    expect(shown.runs).toHaveLength(60);
    // One prune writes a record of its own; the other one may find it at work.
    const pruned = await Promise.all([runPgark(['prune'], { env }), runPgark(['prune'], { env })]);
    expect(pruned.map(({ exitCode }) => exitCode)).toContain(0);
    expect((await pgarkJson<RunsJson>(all, env)).runs.filter(({ kind }) => kind === 'backup')).toEqual(shown.runs);
    for (const hours of [2, 4]) {
      const now = new Date(Date.now() + hours * HOUR_MS);
      const both = [1, 2].map(() => compactRuns(store, { now, random: systemRandom, logger: silentLogger }));
      await Promise.all(both);
      const records = await listRunRecords(store, { since });
      expect(records.filter(({ kind }) => kind === 'backup')).toEqual(before);
    }
    const left: string[] = [];
    for await (const { key } of store.list(keys.runsPrefix)) left.push(key);
    expect(left.length).toBeLessThan(15);
    expect((await pgarkJson<RunsJson>(all, env)).runs.filter(({ kind }) => kind === 'backup')).toEqual(shown.runs);
    await dispose();
  });
});

/** A store of the test's own, and the settings by which pgark finds it. */
async function openPlace(isS3: boolean): Promise<{
  readonly store: ObjectStore;
  readonly env: Readonly<Record<string, string>>;
  readonly dispose: () => Promise<void>;
}> {
  if (isS3) {
    const bucket = await createBucket();
    const store = openS3Store(bucket.name);
    return {
      store,
      env: { ...bucket.env, BACKUP_PREFIX: '/', DATABASE_URL: NOWHERE },
      dispose: async () => {
        await store.close();
        await bucket[Symbol.asyncDispose]();
      },
    };
  }
  const { store, dispose } = await openFileStore();
  return { store, env: { BACKUP_STORAGE: store.location, DATABASE_URL: NOWHERE }, dispose };
}
