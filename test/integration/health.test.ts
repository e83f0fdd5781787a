import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { openStore } from '../../src/app.ts';
import { systemClock } from '../../src/common/clock.ts';
import { createLogger } from '../../src/common/log-writer.ts';
import { systemRandom } from '../../src/common/random.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/model.ts';
import { startHttpServer } from '../../src/http/server.ts';
import { startObserving } from '../../src/service/observe.ts';
import { Teller } from '../../src/service/tell.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { expectExit, fileStorage, s3Storage, urlOf } from '../support/backups.ts';
import { runPgark, runProgram } from '../support/cli.ts';
import { postgresFacts } from '../support/facts.ts';
import { startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

vi.setConfig({ testTimeout: 300_000 });

/** A configuration of one source whose backups may be so old, in a file of its own. */
async function configured(said: {
  readonly database: string;
  readonly storage: string;
  readonly maxAge?: string;
  readonly more?: string;
  /** What is done with the source. Default: a job each night. */
  readonly work?: string;
}) {
  const folder = await makeTempDirectory();
  const file = folder.join('pgark.yaml');
  const write = async (maxAge: string): Promise<void> =>
    writeFile(
      file,
      `
version: 1
storages: { near: { type: file, path: ${said.storage} } }
${said.more ?? ''}
databases:
  shop: { url: ${JSON.stringify(said.database)}, expect: { max_age: ${maxAge} }, ${said.work ?? 'jobs: { nightly: { format: plain, to: [near], schedule: "0 2 * * *" } }'} }
`,
    );
  await write(said.maxAge ?? '30h');
  return {
    file,
    write,
    run: (...args: string[]) => runPgark([...args, '--config', file]),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

describe('healthcheck and check', () => {
  test('go by what lies in the storage: nothing, something fresh, something too old', async () => {
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    await using place = await configured({ database: database.url, storage: storage.path });

    const none = await place.run('healthcheck');
    expectExit(none, 1);
    expect(none.stdout).toContain('on near: overdue: there is no backup');
    expect(await place.run('check', '--nagios')).toMatchObject({
      exitCode: 2,
      stdout: expect.stringMatching(/^PGARK CRITICAL - .*there is no backup \| overdue=1;;0;0 /),
    });

    expectExit(await place.run('backup'), 0);
    const fresh = await place.run('healthcheck');
    expectExit(fresh, 0);
    expect(fresh.stdout).toMatch(/^healthy: 1 of 1 scheduled backups are there and fresh; 1 backups/);
    const check = await place.run('check');
    expectExit(check, 0);
    expect(check.stdout).toMatch(
      /^DATABASE +FORMAT +STORAGE +LAST BACKUP .*\n.*\/we"ird.* plain +near +\d{4}-.* ok\n$/,
    );
    expect(await place.run('check', 'shop', '--nagios')).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(
        /^PGARK OK - .* \| overdue=0;;0;0 failed_proofs=0;;0;0 oldest_backup_age=\d+s;;;0 backups=1;;;0 stored=\d+B;;;0\n$/,
      ),
    });
    const json = await place.run('check', '--output', 'json');
    expect(JSON.parse(json.stdout)).toMatchObject({
      schema_version: 1,
      healthy: true,
      problems: [],
      backups: [
        { source: 'shop', storage: 'near', overdue: false, backups: 1, last_success: { id: expect.any(String) } },
      ],
    });

    await place.write('1s');
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expectExit(await place.run('healthcheck'), 1);
    const late = await place.run('check');
    expectExit(late, 22);
    expect(late.stdout).toMatch(/ OVERDUE\n✖ .* overdue since /);
    expect(late.stderr).toMatch(/^error {2}1 of 1 backups are overdue\n {2}hint make one now/);
    expect(await place.run('check', '--nagios')).toMatchObject({ exitCode: 2 });
  });

  test('say what a verification has found damaged, until there is a newer backup', async () => {
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    await using place = await configured({ database: database.url, storage: storage.path });
    expectExit(await place.run('backup'), 0);
    const dump = (await storage.keys()).find((key) => !key.startsWith('.pgark/') && !key.includes('/globals/')) ?? '';
    const file = path.join(storage.path, dump);
    const bytes = await readFile(file);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    await writeFile(file, bytes);
    expectExit(await place.run('check'), 0);
    expectExit(await place.run('verify'), 20);
    const check = await place.run('check');
    expectExit(check, 20);
    expect(check.stdout).toMatch(/ DAMAGED\n✖ .* is known to be damaged or unreadable: its verification of /);
    expect(check.stderr).toMatch(/^error {2}1 of 1 newest backups are known to be damaged/);
    expect(JSON.parse((await place.run('check', '--output', 'json')).stdout)).toMatchObject({
      healthy: false,
      backups: [{ overdue: false, failed_proof: { id: expect.any(String), kind: 'verify' } }],
    });
    expect(await place.run('check', '--nagios')).toMatchObject({
      exitCode: 2,
      stdout: expect.stringMatching(/^PGARK CRITICAL - .* damaged .*failed_proofs=1;;0;0 /),
    });
    expectExit(await place.run('healthcheck'), 1);
    // So does who only verifies what others back up.
    const work = 'verify: { schedule: "0 4 * * *" }';
    await using verifier = await configured({ database: database.url, storage: storage.path, work });
    expectExit(await verifier.run('check'), 20);
    expectExit(await place.run('backup'), 0);
    expectExit(await verifier.run('check'), 0);
    expectExit(await place.run('check'), 0);
  });

  test('find a server that does not answer, and a storage that cannot be read', async () => {
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    await using place = await configured({ database: database.url, storage: storage.path });
    expectExit(await place.run('backup'), 0);
    await using serverless = await configured({ database: urlOf(database.name, { port: 1 }), storage: storage.path });
    const health = await serverless.run('healthcheck');
    expectExit(health, 1);
    expect(health.stdout).toContain('✖ database shop: cannot reach PostgreSQL at');
    const check = await serverless.run('check');
    expectExit(check, 1);
    expect(check.stderr).toContain('ECONNREFUSED');
    expect(`${health.stdout}${check.stdout}${check.stderr}`).not.toContain(postgresFacts().password);

    await using bucket = await s3Storage();
    const env = { ...bucket.env, DATABASE_URL: database.url, S3_SECRET_ACCESS_KEY: 'wrong-and-secret' };
    expect(await runPgark(['check', '--nagios'], { env })).toMatchObject({
      exitCode: 2,
      stdout: expect.stringMatching(/^PGARK CRITICAL - storage default: listing .*\| overdue=0;/),
    });
    expectExit(await runPgark(['healthcheck'], { env }), 1);
  });

  test('answer by their own statuses to whatever is wrong', async () => {
    const env = { PGARK_CONFIG: '/nonexistent/pgark.yaml' };
    const health = await runPgark(['healthcheck'], { env });
    expectExit(health, 1);
    expect(health.stdout).toContain('unhealthy\nerror  cannot read the configuration file');
    const nagios = await runPgark(['check', '--nagios'], { env });
    expectExit(nagios, 3);
    expect(nagios.stdout).toMatch(/^PGARK UNKNOWN - cannot read .*\n$/);
    expectExit(
      await runPgark(['check', 'nobody', '--nagios'], {
        env: { DATABASE_URL: 'postgres://u@127.0.0.1:1/x', BACKUP_STORAGE: 'file:///nonexistent' },
      }),
      3,
    );
    expectExit(await runPgark(['check'], { env }), 1);
  });
});

describe('check --notify', () => {
  test('tells once what is overdue, and a backup tells the end of it', async () => {
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    await using receiver = await startReceiver([status(200)]);
    const more = `notifications: { ops: { type: slack, url: "${receiver.origin}/hook" } }\ndefaults: { notify: [ops] }`;
    await using place = await configured({ database: database.url, storage: storage.path, more });
    expectExit(await place.run('check'), 22);
    expect(receiver.requests).toHaveLength(0);
    expectExit(await place.run('check', '--notify'), 22);
    expectExit(await place.run('check', '--notify', '--nagios'), 2);
    expect(receiver.requests).toHaveLength(1);
    expect(receiver.requests[0]?.body).toContain('overdue');
    expectExit(await place.run('backup'), 0);
    expect(receiver.requests).toHaveLength(2);
    expectExit(await place.run('check', '--notify'), 0);
    expect(receiver.requests).toHaveLength(2);
  });

  test('tells the end where whoever makes the backups tells nobody, and what is overdue the next time', async () => {
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    await using receiver = await startReceiver([status(200)]);
    const more = `notifications: { ops: { type: slack, url: "${receiver.origin}/hook" } }\ndefaults: { notify: [ops] }`;
    await using silent = await configured({ database: database.url, storage: storage.path });
    await using place = await configured({ database: database.url, storage: storage.path, more });
    expectExit(await silent.run('backup'), 0);
    expectExit(await place.run('check', '--notify'), 0);
    expect(await storage.keys()).not.toContain('.pgark/notifications.json');
    for (const round of [0, 1]) {
      await place.write('1s');
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      for (let time = 0; time < 2; time += 1) expectExit(await place.run('check', '--notify'), 22);
      expect(receiver.requests).toHaveLength(2 * round + 1);
      expect(receiver.requests.at(-1)?.body).toContain('backup overdue');
      expectExit(await silent.run('backup'), 0);
      await place.write('30h');
      for (let time = 0; time < 2; time += 1) expectExit(await place.run('check', '--notify'), 0);
      expect(receiver.requests).toHaveLength(2 * round + 2);
      expect(receiver.requests.at(-1)?.body).toContain('backup is up to date again');
    }
  });
});

/** The watch and the server of a daemon, in this process. */
async function watching(config: Config, lines: string[]) {
  const logger = createLogger({ format: 'json', level: 'debug', write: (line) => lines.push(line) });
  const opened = new Map<string, Promise<ObjectStore>>();
  const world = {
    clock: systemClock,
    random: systemRandom,
    logger,
    openStore: (storage: Config['storages'] extends ReadonlyMap<string, infer Each> ? Each : never) => {
      const store = opened.get(storage.name) ?? openStore(storage, logger);
      opened.set(storage.name, store);
      return store;
    },
  };
  const teller = new Teller({ ...world, retry: { retriesMax: 0, delayMs: 0, delayMsMax: 0 } });
  const observation = startObserving({ ...world, config, teller });
  const server = await startHttpServer({
    host: '127.0.0.1',
    port: 0,
    state: () => observation.state(),
    version: '1.2.3',
    logger,
  });
  return {
    observation,
    teller,
    url: `http://127.0.0.1:${server.port}`,
    port: server.port,
    async [Symbol.asyncDispose]() {
      await server.close();
      await observation.close();
      for (const store of opened.values()) await (await store).close();
    },
  };
}

describe('a daemon that watches', () => {
  test('answers health, readiness and a scrape that promtool has nothing to say against', async () => {
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    await using receiver = await startReceiver([status(500)]);
    const more = `notifications: { ops: { type: slack, url: "${receiver.origin}/hidden-hook", on: [overdue] } }\ndefaults: { notify: [ops] }`;
    await using place = await configured({ database: database.url, storage: storage.path, more });
    expectExit(await place.run('backup'), 0);
    const lines: string[] = [];
    const config = await loadConfig({ file: place.file, env: {}, cwd: '/' });
    await using daemon = await watching(config, lines);
    await vi.waitUntil(async () => (await fetch(`${daemon.url}/readyz`)).status === 200, { timeout: 240_000 });
    await vi.waitUntil(() => daemon.observation.state()?.probes.length === 2, { timeout: 240_000 });
    expect((await fetch(`${daemon.url}/healthz`)).status).toBe(200);
    const health = await fetch(`${daemon.url}/health`);
    expect([health.status, health.headers.get('x-pgark-health')]).toEqual([200, 'healthy']);
    const scrape = await (await fetch(`${daemon.url}/metrics`)).text();
    expect(await runProgram('promtool', ['check', 'metrics'], { input: scrape })).toMatchObject({
      exitCode: 0,
      stderr: '',
    });
    expect(scrape).toMatch(/pgark_backup_overdue\{source="shop",.*\} 0\n/);
    expect(scrape).toMatch(/pgark_runs_total\{kind="backup",source="shop",.*result="succeeded"\} 1\n/);

    // Another process makes a backup: the next reading knows it.
    expectExit(await place.run('backup'), 0);
    daemon.observation.refresh();
    const counted = async (): Promise<boolean> =>
      /pgark_storage_backups\{.*\} 2\n/.test(await (await fetch(`${daemon.url}/metrics`)).text());
    await vi.waitUntil(counted, { timeout: 240_000 });

    await daemon.teller.tell(config, [{ event: 'overdue', at: new Date(), source: 'shop', storage: 'near' }]);
    expect(await (await fetch(`${daemon.url}/metrics`)).text()).toMatch(/^pgark_notification_failures_total 1$/m);
    const everything = `${lines.join('')}${scrape}${await health.text()}`;
    for (const secret of [postgresFacts().password, 'hidden-hook']) expect(everything).not.toContain(secret);
  });

  test('is what healthcheck asks, and a stranger at its address is not', async () => {
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS n' });
    await using storage = await fileStorage();
    await using place = await configured({ database: database.url, storage: storage.path });
    expectExit(await place.run('backup'), 0);
    await using daemon = await watching(await loadConfig({ file: place.file, env: {}, cwd: '/' }), []);
    await vi.waitUntil(() => daemon.observation.state()?.probes.length === 2, { timeout: 240_000 });
    // A process that knows no better server than this one could not say that all is well.
    await using blind = await configured({ database: urlOf(database.name, { port: 1 }), storage: storage.path });
    const ask = (port: number, ...args: string[]) =>
      runPgark(['healthcheck', ...args, '--config', blind.file], { env: { PGARK_LISTEN: `0.0.0.0:${port}` } });
    const asked = await ask(daemon.port);
    expectExit(asked, 0);
    expect(asked.stdout).toMatch(/^healthy: /);
    expectExit(await ask(daemon.port, '--no-daemon'), 1);

    const stranger = createServer((_request, response) => response.end('healthy'));
    await new Promise<void>((resolve) => stranger.listen(0, '127.0.0.1', resolve));
    expectExit(await ask((stranger.address() as AddressInfo).port), 1);
    stranger.close();
  });
});
