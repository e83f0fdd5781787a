import { writeFile } from 'node:fs/promises';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { type Storage, expectExit, fileStorage, filler, s3Storage, startPgark, urlOf } from '../support/backups.ts';
import { type RunResult, runPgark } from '../support/cli.ts';
import { postgresFacts } from '../support/facts.ts';
import { type HttpReceiver, hang, startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { type SmtpReceiver, startSmtpReceiver } from '../support/smtp-receiver.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

vi.setConfig({ testTimeout: 300_000 });

const STATE = '.pgark/notifications.json';
/** Each of them stands in the configuration of every test here, and nowhere else. */
const secrets = {
  hook: 'hook-1f9c2b7a40',
  signing: 'whsec_c2VjcmV0LXNpZ25pbmcta2V5LTAwMDE=',
  ping: '6d1f0d2e-hidden-check',
  mail: 'mail-p4ssw0rd-77',
};
/** Everything that was printed, stored or sent by any test; addresses are not part of what is sent. */
const everything: string[] = [];

interface Place extends AsyncDisposable {
  readonly hook: HttpReceiver;
  readonly smtp: SmtpReceiver;
  readonly storages: readonly Storage[];
  /** Runs a command with this configuration; the file is written anew if another URL is given. */
  readonly run: (args: readonly string[]) => Promise<RunResult>;
  readonly configure: (database: string) => Promise<void>;
  readonly file: string;
  readonly env: Readonly<Record<string, string>>;
  /** The events that the webhook was told, with what they were about. */
  readonly events: () => readonly Record<string, unknown>[];
  readonly pings: () => readonly string[];
  /** What came with each ping. */
  readonly pingBodies: () => readonly string[];
}

async function open(database: string, options: { readonly hook?: HttpReceiver } = {}): Promise<Place> {
  const folder: TempDirectory = await makeTempDirectory();
  const near = await fileStorage();
  const far = await s3Storage();
  const smtp = await startSmtpReceiver({ login: { user: 'pgark', password: secrets.mail } });
  const hook = options.hook ?? (await startReceiver([status(200)]));
  const ping = await startReceiver([status(200, 'OK')]);
  const { bucket } = far;
  const env = {
    KEY_ID: bucket.env['S3_ACCESS_KEY_ID'] ?? '',
    KEY_SECRET: bucket.env['S3_SECRET_ACCESS_KEY'] ?? '',
  };
  const configure = async (url: string): Promise<void> => {
    await writeFile(
      folder.join('pgark.yaml'),
      `
version: 1
storages:
  near: { type: file, path: ${near.path} }
  far:
    type: s3
    bucket: ${bucket.name}
    endpoint: ${bucket.env['S3_ENDPOINT']}
    region: ${bucket.env['S3_REGION']}
    access_key_id: "\${KEY_ID}"
    secret_access_key: "\${KEY_SECRET}"
    force_path_style: true
notifications:
  hook: { type: webhook, url: "${hook.origin}/${secrets.hook}", secret: "${secrets.signing}", on: ["*"] }
  watchdog: { type: healthchecks, url: "${ping.origin}/${secrets.ping}", send_log: 10KiB }
  desk: { type: email, smtp: "smtp://pgark@127.0.0.1:${smtp.port}", password: ${secrets.mail}, to: [dba@example.com] }
defaults: { notify: [hook, watchdog, desk], retry: { attempts: 1, delay: 50ms } }
retention:
  two: { keep: { last: 2 }, min_backups: 1 }
databases:
  shop: { url: ${JSON.stringify(url)}, jobs: { nightly: { format: plain, to: [near, far], retention: two } } }
`,
    );
  };
  await configure(database);
  return {
    hook,
    smtp,
    storages: [near, far],
    file: folder.join('pgark.yaml'),
    env,
    configure,
    run: async (args) => {
      const result = await runPgark([...args, '--config', folder.join('pgark.yaml')], { env });
      everything.push(result.stdout, result.stderr);
      return result;
    },
    events: () =>
      hook.requests.map(({ body }) => (JSON.parse(body) as { readonly data: Record<string, unknown> }).data),
    pings: () => ping.requests.map(({ url }) => (url.split('?')[0] ?? '').replace(`/${secrets.ping}`, '')),
    pingBodies: () => ping.requests.map(({ body }) => body),
    async [Symbol.asyncDispose]() {
      everything.push(...hook.requests.map(({ body }) => body), ...ping.requests.map(({ body }) => body));
      everything.push(...smtp.mails.map(({ source }) => source));
      for (const storage of [near, far]) {
        for (const key of await storage.keys()) {
          if (key.startsWith('.pgark/')) everything.push((await storage.get(key)).toString());
        }
      }
      for (const each of [hook, ping, smtp, near, far, folder]) await each[Symbol.asyncDispose]();
    },
  };
}

/** The database at a port where nobody listens. */
function nowhere(database: TestDatabase): string {
  return urlOf(database.name, { port: 1 });
}

afterAll(() => {
  const all = everything.join('\n');
  expect(all).toContain('backup.failed');
  for (const secret of [...Object.values(secrets), postgresFacts().password]) expect(all).not.toContain(secret);
});

describe('a one-shot backup', () => {
  test('tells each channel what it wants to know: once, with its end, from process to process', async () => {
    await using database = await createDatabase({ sql: filler(1) });
    await using place = await open(database.url);
    const { run, events, pings, smtp, storages } = place;

    expectExit(await run(['backup']), 0);
    expect(events().map(({ event }) => event)).toEqual(['start', 'success']);
    expect(events()[1]).toMatchObject({ source: 'shop', database: database.name, job: 'nightly' });
    expect(events()[1]).not.toHaveProperty('storage');
    expect(pings()).toEqual(['/start', '']);
    expect(place.pingBodies()[1]).toMatch(/ INFO dumping .*\n.* SUCCESS backed up /);
    expect(smtp.mails).toHaveLength(0);
    const [near, far] = storages;
    expect(await near?.keys()).not.toContain(STATE);

    await place.configure(nowhere(database));
    for (let attempt = 0; attempt < 2; attempt += 1) expectExit(await run(['backup']), 1);
    // The machine and the people are told once for each storage, the watchdog of every run.
    const failures = events().filter(({ event }) => event === 'failure');
    expect(failures.map(({ storage }) => storage)).toEqual(['near', 'far']);
    expect(failures[0]).toMatchObject({
      error: { code: 'postgres-unreachable' },
      last_good_at: expect.stringMatching(/Z$/),
    });
    expect(pings().slice(2)).toEqual(['/start', '/fail', '/start', '/fail']);
    expect(place.pingBodies().at(-1)).toMatch(/ ERROR cannot reach PostgreSQL .*ECONNREFUSED/);
    expect(failures[0]).toMatchObject({ run_id: expect.stringMatching(/^01/) });
    expect(smtp.mails).toHaveLength(2);
    expect(JSON.parse((await near?.get(STATE))?.toString() ?? '')).toMatchObject({
      layout: 1,
      problems: [
        { event: 'failure', storage: 'near', timesSeen: 2 },
        { event: 'failure', storage: 'far', timesSeen: 2 },
      ],
    });
    expect(await far?.get(STATE)).toEqual(await near?.get(STATE));

    await place.configure(database.url);
    expectExit(await run(['backup']), 0);
    expect(events().filter(({ event }) => event === 'recovery')).toMatchObject([{ of: 'failure', times_seen: 2 }]);
    expect(smtp.mails).toHaveLength(3);
    expect(pings().at(-1)).toBe('');
    expectExit(await run(['backup']), 0);
    expect(smtp.mails).toHaveLength(3);
  });

  test('that nobody can be told of is as good as any other', async () => {
    await using database = await createDatabase({ sql: filler(1) });
    await using place = await open(database.url, { hook: await startReceiver([status(500)]) });
    await place.smtp[Symbol.asyncDispose]();
    const result = await place.run(['backup', '--output', 'json', '--verbose']);
    expectExit(result, 0);
    expect(JSON.parse(result.stdout)).toMatchObject({ results: [{ state: 'committed' }, { state: 'committed' }] });
    expect(result.stderr).toContain('could not be told to hook');
    // What cannot be told is no part of the run's record either.
    const [near] = place.storages;
    const records = (await near?.keys())?.filter((key) => key.startsWith('.pgark/runs/')) ?? [];
    expect(records.length).toBeGreaterThan(0);
    for (const key of records)
      expect(JSON.parse((await near?.get(key))?.toString() ?? '')).toMatchObject({ state: 'succeeded' });
  });

  test('that is interrupted says so before it ends', async () => {
    await using database = await createDatabase({ sql: filler(8) });
    await using proxy = await startTcpProxy(postgresFacts());
    await using place = await open(urlOf(database.name, { port: proxy.port }));
    const held = proxy.holdAfter(2 * 2 ** 20);
    const started = startPgark(['backup', '--config', place.file], { env: place.env });
    await held;
    await started.kill('SIGTERM');
    const result = await started.result;
    everything.push(result.stdout, result.stderr);
    expectExit(result, 130);
    const [start, ...failures] = place.events();
    expect(start).toMatchObject({ event: 'start' });
    expect(failures.map(({ storage }) => storage)).toEqual(['near', 'far']);
    for (const failure of failures) expect(failure).toMatchObject({ event: 'failure', error: { code: 'interrupted' } });
    expect(place.pings()).toEqual(['/start', '/fail']);
  });

  test('that is interrupted is not held up by a receiver that hangs', async () => {
    await using database = await createDatabase({ sql: filler(8) });
    await using proxy = await startTcpProxy(postgresFacts());
    await using place = await open(urlOf(database.name, { port: proxy.port }), {
      hook: await startReceiver([hang]),
    });
    const held = proxy.holdAfter(2 * 2 ** 20);
    const started = startPgark(['backup', '--config', place.file], { env: place.env });
    await held;
    const killedMs = performance.now();
    await started.kill('SIGTERM');
    expectExit(await started.result, 130);
    // By itself it would be told twice, for ten seconds each time, of the start and of the end.
    expect(performance.now() - killedMs).toBeLessThan(19_000);
    expect(place.pings()).toEqual(['/start', '/fail']);
  });
});

describe('prune and verify', () => {
  test('tell of what they refuse and what they find damaged, and of its end', { timeout: 600_000 }, async () => {
    await using database = await createDatabase({ sql: filler(1) });
    await using place = await open(database.url);
    const { run, events, storages } = place;
    for (let round = 0; round < 5; round += 1) expectExit(await run(['backup', '--no-prune']), 0);
    const before = events().length;
    expectExit(await run(['prune']), 1);
    expectExit(await run(['prune']), 1);
    const both = ['near', 'far'];
    const refused = both.map((storage) => ({ event: 'prune_refused', source: 'shop', storage }));
    expect(events().slice(before)).toMatchObject(refused);
    expectExit(await run(['prune', '--force']), 0);
    const recovered = both.map((storage) => ({ event: 'recovery', of: 'prune_refused', storage }));
    expect(events().slice(before + refused.length)).toMatchObject(recovered);

    const [near] = storages;
    const [oldest = ''] = ((await near?.keys()) ?? []).filter((key) => /^[^/]+\.sql\.gz$/.test(key));
    const path = `${near !== undefined && 'path' in near ? String(near.path) : ''}/${oldest}`;
    const whole = (await near?.get(oldest)) ?? Buffer.of();
    const damaged = Buffer.from(whole);
    damaged[1_000] = (damaged[1_000] ?? 0) ^ 1;
    const verifying = events().length;
    await writeFile(path, damaged);
    expectExit(await run(['verify', '--deep', '--storage', 'near']), 20);
    expect(events().slice(verifying)).toMatchObject([
      { event: 'verify_failed', storage: 'near', error: { code: 'corrupt' }, backup_id: expect.any(String) },
    ]);
    // It has the right size, and the newest one is whole: that is no all-clear.
    expectExit(await run(['verify', '--storage', 'near']), 0);
    expect(events()).toHaveLength(verifying + 1);
    await writeFile(path, whole);
    expectExit(await run(['verify', '--deep', '--storage', 'near']), 0);
    expect(events().slice(verifying + 1)).toMatchObject([{ event: 'recovery', of: 'verify_failed' }]);
  });
});

describe('notify test', () => {
  test('says of each channel what happened, and ends with 1 if a message did not arrive', async () => {
    await using place = await open('postgres://u@127.0.0.1:1/nothing');
    const good = await place.run(['notify', 'test']);
    expectExit(good, 0);
    expect(good.stdout).toBe(
      '✓ hook (webhook): delivered\n✓ watchdog (healthchecks): delivered\n✓ desk (email): delivered\n',
    );
    expect(place.events()).toMatchObject([{ event: 'test', channel: 'hook' }]);
    expect(place.pings()).toEqual(['/log']);
    expect(place.smtp.mails).toHaveLength(1);

    await place.smtp[Symbol.asyncDispose]();
    const bad = await place.run(['notify', 'test', 'desk', 'watchdog']);
    expectExit(bad, 1);
    expect(bad.stdout).toMatch(/^✖ desk \(email\): .*\n {4}.+\n✓ watchdog \(healthchecks\): delivered\n$/);
    expect(bad.stderr).toMatch(/error {2}the trial message did not arrive: 1 of 2 channels: desk\n/);
    const asJson = await place.run(['notify', 'test', 'desk', '--output', 'json']);
    expect(JSON.parse(asJson.stdout)).toMatchObject({
      channels: [{ name: 'desk', type: 'email', outcome: 'failed', error: { code: 'notification-failed' } }],
    });
    expectExit(await place.run(['notify', 'test', 'nobody']), 2);
    expectExit(await runPgark(['notify', 'test'], { env: {} }), 1);
  });

  test('says of a channel that no database names that nobody is told through it', async () => {
    await using receiver = await startReceiver([status(200)]);
    await using folder = await makeTempDirectory();
    await writeFile(
      folder.join('pgark.yaml'),
      `
version: 1
storages: { near: { type: file, path: backups } }
notifications: { ops: { type: webhook, url: "${receiver.origin}/hook" } }
databases: { shop: { url: "postgres://u@127.0.0.1:1/shop", jobs: { nightly: { format: plain } } } }
`,
    );
    const tried = await runPgark(['notify', 'test', '--config', 'pgark.yaml'], { cwd: folder.path });
    expectExit(tried, 0);
    expect(tried.stdout).toBe(
      '! ops (webhook): delivered, but the notification is named by no database: nobody is told through it\n',
    );
    expect(receiver.requests).toHaveLength(1);
  });
});
