import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { expectExit, fileStorage, pgarkJson, succeed, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { startDaemon } from '../support/daemon.ts';
import { postgresFacts } from '../support/facts.ts';
import { type Answer, hang, startReceiver, status } from '../support/http-receiver.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { receivedSpans } from '../support/traces.ts';

const SQL = 'create table item as select n, md5(n::text) as hash from generate_series(1, 1000) n';
const HEADER_SECRET = 'token-of-the-collector';
const PASSPHRASE = 'a passphrase that is longer than 32 characters';

/** Answers and then never comes to an end, a byte now and then. */
const trickle: Answer = (response) => {
  response.writeHead(500);
  const timer = setInterval(() => response.write(' '), 200);
  response.on('close', () => clearInterval(timer));
};

/** The lines of a log in JSON that tell of traces. */
function saidOfTraces(stderr: string): string[] {
  const lines = stderr.split('\n').filter((line) => line.startsWith('{'));
  const events = lines.map((line) => JSON.parse(line) as { event: string; message: string });
  return events.filter(({ event }) => event.startsWith('traces.')).map(({ message }) => message);
}

describe.concurrent('traces', () => {
  test('of a backup are one span of the run with its phases in it, and one of the prune after it', async () => {
    await using receiver = await startReceiver([status(200, '{}')]);
    await using storage = await fileStorage();
    await using shop = await createDatabase({ sql: SQL });
    const env = {
      ...storage.env,
      DATABASE_URL: shop.url,
      BACKUP_NAME: 'shop',
      BACKUP_ENCRYPTION_KEY: PASSPHRASE,
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.origin,
      OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${HEADER_SECRET}`,
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=trial',
    };
    const { results } = await pgarkJson<{ results: { backup: { id: string } }[] }>(
      ['backup', '--verify-after', 'full'],
      env,
    );
    const spans = receivedSpans(receiver);
    expect(spans.map(({ path }) => path)).toEqual([
      'backup',
      'backup > checks',
      'backup > checks > check server',
      'backup > checks > check storage',
      'backup > dump',
      'backup > dump > commit',
      'backup > dump > read back',
      'backup > dump > upload',
      'backup > locks',
      'backup > sweep',
      'prune',
      'prune > compact',
      'prune > plan',
      'prune > remove',
      'prune > sweep',
      'prune > wal',
    ]);
    const [root] = spans;
    expect(root?.attributes).toMatchObject({
      'pgark.run_id': expect.stringMatching(/^[0-9A-Z]{26}$/),
      'pgark.kind': 'backup',
      'pgark.source': 'shop',
      'pgark.database': shop.name,
      'pgark.format': 'plain',
      'pgark.storages': ['default'],
      'pgark.state': 'succeeded',
      'pgark.result.backup_id': results[0]?.backup.id,
      'pgark.result.committed': 1,
    });
    const upload = spans.find(({ name }) => name === 'upload');
    for (const side of ['stored', 'plain']) {
      expect(upload?.attributes[`pgark.${side}_bytes`]).toBe(root?.attributes[`pgark.result.${side}_bytes`]);
      expect(upload?.attributes[`pgark.${side}_bytes`]).toBeGreaterThan(1_000);
    }
    expect(upload?.attributes).toMatchObject({ 'pgark.storage': 'default' });
    expect(spans.filter(({ failed }) => failed)).toEqual([]);
    for (const span of spans) {
      expect(span.resource).toMatchObject({ 'service.name': 'pgark', 'deployment.environment.name': 'trial' });
      expect(span.endedNs).toBeGreaterThanOrEqual(span.startedNs);
    }
    expect(receiver.requests.map(({ method, url, headers }) => `${method} ${url} ${headers.authorization}`)).toEqual(
      receiver.requests.map(() => `POST /v1/traces Bearer ${HEADER_SECRET}`),
    );
    const sent = JSON.stringify(receiver.requests.map(({ body }) => body));
    for (const secret of [HEADER_SECRET, PASSPHRASE, postgresFacts().password]) expect(sent).not.toContain(secret);
  });

  test('tell of restore and verify too, each with its phases', async () => {
    await using receiver = await startReceiver([status(200, '{}')]);
    await using storage = await fileStorage();
    await using shop = await createDatabase({ sql: SQL });
    await using copy = await createDatabase({});
    const env = { ...storage.env, DATABASE_URL: shop.url };
    await succeed(['backup'], env);
    const traced = {
      ...env,
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${receiver.origin}/otlp`,
      OTEL_SERVICE_NAME: 'night',
    };
    await succeed(['verify'], traced);
    await succeed(['restore', 'latest', '--to-db', copy.name], traced);
    expect(receivedSpans(receiver).map(({ path }) => path)).toEqual([
      'restore',
      'restore > analyse',
      'restore > checks',
      'restore > load',
      'restore > verify',
      'verify',
      'verify > read',
    ]);
    const states = receivedSpans(receiver).flatMap(({ attributes }) => attributes['pgark.state'] ?? []);
    expect(states).toEqual(['succeeded', 'succeeded']);
    expect(receivedSpans(receiver)[0]?.resource).toMatchObject({ 'service.name': 'night' });
    expect([...new Set(receiver.requests.map(({ url }) => url))]).toEqual(['/otlp']);
  });

  test('of a backup that fails say so by its code, without the words of the server', async () => {
    await using receiver = await startReceiver([status(200, '{}')]);
    await using storage = await fileStorage();
    const env = {
      ...storage.env,
      DATABASE_URL: urlOf('postgres', { password: 'the-wrong-one' }),
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.origin,
    };
    expectExit(await runPgark(['backup'], { env }), 1);
    // The check of the storage may have been over when that of the server failed, or was cut off by it.
    const spans = receivedSpans(receiver).filter(({ name }) => name !== 'check storage');
    expect(spans.map(({ path, attributes }) => [path, attributes['error.type']])).toEqual([
      ['backup', 'postgres-auth-failed'],
      ['backup > checks', 'postgres-auth-failed'],
      ['backup > checks > check server', 'postgres-auth-failed'],
    ]);
    expect(spans.filter(({ failed }) => !failed)).toEqual([]);
    expect(spans[0]?.attributes).toMatchObject({ 'pgark.state': 'failed' });
    const sent = receiver.requests.map(({ body }) => body).join('');
    expect(sent).not.toContain('the-wrong-one');
    expect(sent).not.toContain('authentication');
  });

  test('say which destination failed while the other one has the backup', async () => {
    await using receiver = await startReceiver([status(200, '{}')]);
    await using folder = await makeTempDirectory();
    await using shop = await createDatabase({ sql: SQL });
    await writeFile(folder.join('blocked'), 'a file where a directory should be');
    await writeFile(
      folder.join('pgark.yaml'),
      `version: 1
traces: { url: "${receiver.origin}/v1/traces", headers_file: headers }
storages:
  near: { type: file, path: near }
  far: { type: file, path: blocked/far }
databases:
  shop: { url: ${JSON.stringify(shop.url)}, globals: none, jobs: { nightly: { to: [near, far] } } }
`,
    );
    await writeFile(folder.join('headers'), `x-key=${HEADER_SECRET}\n`);
    const result = await runPgark(['backup', '-c', 'pgark.yaml'], {
      cwd: folder.path,
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_EXPORTER_OTLP_HEADERS: 'x-key=other' },
    });
    expectExit(result, 4);
    expect(receiver.requests[0]?.headers['x-key']).toBe(HEADER_SECRET);
    const [root, ...parts] = receivedSpans(receiver);
    expect(root).toMatchObject({ failed: false });
    expect(root?.attributes).toMatchObject({
      'pgark.storages': ['near', 'far'],
      'pgark.failed_storages': ['far'],
      'pgark.result.failed': 1,
    });
    const told = parts.filter(({ name }) => ['check storage', 'upload', 'commit'].includes(name));
    // Both storages are looked at at the same time.
    expect(
      told.map(({ name, attributes, failed }) => `${name} ${String(attributes['pgark.storage'])} ${failed}`).sort(),
    ).toEqual(['check storage far true', 'check storage near false', 'commit near false', 'upload near false']);
  });

  test('are not sent unless they are switched on, and not where they are switched off again', async () => {
    await using receiver = await startReceiver([status(200, '{}')]);
    await using storage = await fileStorage();
    await using shop = await createDatabase({ sql: SQL });
    const env = { ...storage.env, DATABASE_URL: shop.url, LOG_FORMAT: 'json' };
    for (const settings of [{}, { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.origin, OTEL_SDK_DISABLED: 'true' }]) {
      expect(saidOfTraces((await succeed(['backup'], { ...env, ...settings })).stderr)).toEqual([]);
    }
    expect(receiver.requests).toEqual([]);
  });

  const receivers: readonly (readonly [string, Answer, RegExp])[] = [
    ['never answers', hang, /^traces could not be sent to http:.*: /],
    ['never ends its answer', trickle, /^traces could not be sent to http:.*: /],
    ['is broken', status(500), /^traces could not be sent to http:.*: it answered with HTTP status 500$/],
  ];
  test.each(receivers)(
    'to a receiver that %s are lost with one warning, and the backup is not',
    async (_, answer, said) => {
      await using receiver = await startReceiver([answer]);
      await using storage = await fileStorage();
      await using shop = await createDatabase({ sql: SQL });
      const env = { ...storage.env, DATABASE_URL: shop.url, LOG_FORMAT: 'json' };
      const result = await runPgark(['backup'], { env: { ...env, OTEL_EXPORTER_OTLP_ENDPOINT: receiver.origin } });
      expectExit(result, 0);
      expect(saidOfTraces(result.stderr)).toEqual([expect.stringMatching(said)]);
      expect(receiver.requests.length).toBeGreaterThan(0);
      expect(await pgarkJson(['list'], env)).toMatchObject({ storages: [{ backups: [{}] }] });
    },
  );

  test('of a daemon arrive while it runs, and the last ones at its end', async () => {
    const first = Promise.withResolvers<void>();
    await using receiver = await startReceiver([
      (response, request) => {
        first.resolve();
        status(200, '{}')(response, request);
      },
    ]);
    await using storage = await fileStorage();
    await using shop = await createDatabase({ sql: SQL });
    await using daemon = startDaemon({
      ...storage.env,
      DATABASE_URL: shop.url,
      BACKUP_SCHEDULE: '1s',
      OTEL_EXPORTER_OTLP_ENDPOINT: receiver.origin,
    });
    await first.promise;
    await daemon.stop();
    const committed = daemon.of('backup.committed').map(({ runId }) => runId);
    const spans = receivedSpans(receiver).filter(({ path }) => path === 'backup');
    expect(committed.length).toBeGreaterThan(0);
    expect(spans.map(({ attributes }) => attributes['pgark.run_id'])).toEqual(expect.arrayContaining(committed));
  });
});
