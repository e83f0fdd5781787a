import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { expectExit, fileStorage, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { startDaemon, type TestDaemon } from '../support/daemon.ts';
import { startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase, createRole } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

vi.setConfig({ testTimeout: 300_000 });

const CONFIG = ['--config', 'pgark.yaml'];

/** Whatever a run leaves behind, without what differs from run to run. */
interface Traces {
  readonly events: readonly string[];
  readonly pings: readonly string[];
  /** What the hooks were told. */
  readonly hooks: string;
  readonly records: readonly string[];
  /** Events of the logs that lie in the storages. */
  readonly logs: readonly string[];
  readonly metrics: readonly string[];
}

interface Said {
  /** Of the database, and of one that both storages have a backup of already: a first failure leaves no record. */
  readonly url: string;
  readonly other: string;
  readonly outcome: 'succeeded' | 'failed';
}

async function tracesOf(mode: 'once' | 'daemon', said: Said, expected?: Traces): Promise<Traces> {
  const { url, other, outcome } = said;
  await using folder = await makeTempDirectory();
  await using near = await fileStorage(folder.join('near'));
  await using far = await fileStorage(folder.join('far'));
  await using hook = await startReceiver([status(200)]);
  await using ping = await startReceiver([status(200, 'OK')]);
  const note = `["sh", "-c", 'echo "$PGARK_HOOK $PGARK_SOURCE $PGARK_JOB $PGARK_STORAGES $PGARK_RESULT" >> told']`;
  await writeFile(
    folder.join('pgark.yaml'),
    `
version: 1
storages: { near: { type: file, path: near }, far: { type: file, path: far } }
retention: { few: { keep: { last: 3 } } }
notifications:
  hook: { type: webhook, url: "${hook.origin}/hook", on: ["*"] }
  ping: { type: healthchecks, url: "${ping.origin}/ping" }
defaults: { notify: [hook, ping], retry: { attempts: 0 } }
databases:
  shop:
    url: ${JSON.stringify(url)}
    hooks: { before_backup: [{ run: ${note} }], after_backup: [{ run: ${note} }] }
    jobs: { often: { format: plain, schedule: 1h, to: [near, far], retention: few } }
`,
  );
  const options = { cwd: folder.path };
  for (const storage of [near, far])
    expectExit(await runPgark(['backup'], { env: { ...storage.env, DATABASE_URL: other, BACKUP_NAME: 'other' } }), 0);
  if (mode === 'once') {
    // Hooks begin in the directory of the process.
    const { exitCode } = await runPgark(['once', ...CONFIG], { ...options, ownProcess: true });
    expect(exitCode === 0).toBe(outcome === 'succeeded');
  }
  // After a run by hand nothing is due, and the daemon only tells.
  await using daemon = startDaemon({}, CONFIG, options);
  if (mode === 'daemon') await daemon.until(`job.${outcome}`);
  const metrics = await metricsOf(daemon, outcome, expected?.metrics);
  await daemon.stop();
  expect(daemon.of('job.started')).toHaveLength(mode === 'daemon' ? 1 : 0);
  const stored = async (prefix: string): Promise<readonly string[]> => {
    const found: string[] = [];
    for (const [name, storage] of [
      ['near', near],
      ['far', far],
    ] as const)
      for (const key of await storage.keys())
        if (key.startsWith(prefix)) found.push(`${name} ${(await storage.get(key)).toString()}`);
    return found;
  };
  return {
    events: hook.requests.map(({ body }) => eventOf(body)),
    pings: ping.requests.map(({ url: path }) => path.split('?')[0] ?? ''),
    hooks: await readFile(folder.join('told'), 'utf8'),
    records: (await stored('.pgark/runs/')).map(recordOf).sort(),
    logs: (await stored('.pgark/logs/')).map(logOf).sort(),
    metrics,
  };
}

function eventOf(body: string): string {
  const { type, data } = JSON.parse(body) as {
    readonly type: string;
    readonly data: Readonly<Record<string, unknown>> & { readonly error?: { readonly code: string } };
  };
  const { event, source, database, storage, job, error } = data;
  return JSON.stringify({
    type,
    event,
    source,
    database,
    storage,
    job,
    code: error?.code,
    keys: Object.keys(data).sort(),
  });
}

function recordOf(stored: string): string {
  const start = stored.indexOf('{');
  const record = JSON.parse(stored.slice(start)) as Readonly<Record<string, unknown>> & {
    readonly error?: { readonly code: string };
  };
  const { kind, source, database, state, error, destinations } = record;
  const facts = { kind, source, database, state, code: error?.code, destinations, keys: Object.keys(record).sort() };
  return `${stored.slice(0, start)}${JSON.stringify(facts)}`;
}

/** Each event once: whether the other storage has its backup too when the log is stored in this one is chance. */
function logOf(stored: string): string {
  const lines = stored.split('\n').filter((line) => line !== '');
  return [...new Set(lines.map((line) => /"event":"([^"]+)"/.exec(line)?.[1] ?? line))].join(' ');
}

/** Which series there are, and the values of those that count; if there is something to expect, once it has come. */
async function metricsOf(
  daemon: TestDaemon,
  outcome: string,
  expected: readonly string[] | undefined,
): Promise<readonly string[]> {
  const [listening] = await daemon.until('http.listening');
  const url = `http://127.0.0.1:${String(listening?.['port'])}/metrics`;
  let text = '';
  let lines: readonly string[] = [];
  const counted = (storage: string): boolean =>
    new RegExp(
      `^pgark_runs_total\\{kind="backup",source="shop",.*storage="${storage}",result="${outcome}"\\} 1$`,
      'm',
    ).test(text);
  await vi.waitUntil(
    async () => {
      text = await (await fetch(url)).text();
      lines = text
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('#') && !line.includes('_duration_seconds_bucket'))
        .map((line) => (line.startsWith('pgark_runs_total') ? line : line.slice(0, line.lastIndexOf(' '))))
        .sort();
      // A reading in the midst of the run's end knows a part of it.
      const isComplete = expected === undefined || JSON.stringify(lines) === JSON.stringify(expected);
      return counted('near') && counted('far') && isComplete;
    },
    { timeout: 240_000, interval: 200 },
  );
  return lines;
}

describe.concurrent('a run that once makes and one that the daemon makes', () => {
  test('leave the same behind when they succeed', async () => {
    await using database = await createDatabase({ name: 'same', sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    const said = { url: database.url, other: database.url, outcome: 'succeeded' } as const;
    const once = await tracesOf('once', said);
    expect(once.events).toHaveLength(2);
    expect(once.pings).toEqual(['/ping/start', '/ping']);
    expect(once.hooks).toBe('before_backup shop often near,far \nafter_backup shop often near,far succeeded\n');
    expect(once.records.filter((record) => record.includes('"source":"shop"'))).not.toHaveLength(0);
    expect(await tracesOf('daemon', said, once)).toEqual(once);
  });

  test('leave the same behind when they fail', async () => {
    await using role = await createRole();
    await using database = await createDatabase({ name: 'same', sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    const said = { url: urlOf(database.name, role), other: database.url, outcome: 'failed' } as const;
    const once = await tracesOf('once', said);
    expect(once.events).toHaveLength(3);
    expect(once.pings).toEqual(['/ping/start', '/ping/fail']);
    expect(once.hooks).toBe('before_backup shop often near,far \nafter_backup shop often near,far failed\n');
    expect(once.records.filter((record) => record.includes('"state":"failed"'))).toHaveLength(2);
    expect(await tracesOf('daemon', said, once)).toEqual(once);
  });
});

describe('a hook before the backup', () => {
  test('that fails prevents it, and the one after it is called all the same', async () => {
    await using folder = await makeTempDirectory();
    await using storage = await fileStorage(folder.join('near'));
    await mkdir(folder.join('near'));
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    const configure = (onError: string): Promise<void> =>
      writeFile(
        folder.join('pgark.yaml'),
        `
version: 1
storages: { near: { type: file, path: near } }
databases:
  shop:
    url: ${JSON.stringify(database.url)}
    hooks:
      before_backup: [{ run: ["sh", "-c", "echo before >> told; exit 3"], on_error: ${onError} }]
      after_backup: [{ run: ["sh", "-c", "echo after >> told"] }]
    jobs: { often: { format: plain, schedule: 1h } }
`,
      );
    const run = () => runPgark(['backup', ...CONFIG], { cwd: folder.path, ownProcess: true });
    const manifests = async (): Promise<number> =>
      (await storage.keys()).filter((key) => key.startsWith('.pgark/backups/')).length;
    await configure('abort');
    const prevented = await run();
    expectExit(prevented, 1);
    expect(prevented.stderr).toContain('exited with 3');
    expect(await readFile(folder.join('told'), 'utf8')).toBe('before\nafter\n');
    expect(await manifests()).toBe(0);
    await configure('warn');
    expectExit(await run(), 0);
    expect(await readFile(folder.join('told'), 'utf8')).toBe('before\nafter\nbefore\nafter\n');
    expect(await manifests()).toBe(1);
  });
});
