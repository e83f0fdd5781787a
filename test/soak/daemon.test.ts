import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { startCeph } from '../support/ceph.ts';
import { runPgark } from '../support/cli.ts';
import { startDaemon } from '../support/daemon.ts';
import { startStoppableProxy } from '../support/stoppable-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { readMatrixFolders, startMatrixServer } from './matrix-servers.ts';

/** How long the daemon runs. One storage is away from a third of it on, for a fifth of it. */
const MINUTES = Number(process.env['PGARK_SOAK_MINUTES'] ?? '15');
const MINUTE_MS = 60_000;
/** The shortest in which the storage is away for a whole minute, and one mark of five minutes comes. */
const MINUTES_MIN = 6;

const runsSchema = z.object({
  runs: z.array(
    z.object({
      id: z.string(),
      kind: z.string(),
      source: z.string().optional(),
      state: z.string(),
      started_at: z.string(),
      storages: z.array(z.object({ storage: z.string(), state: z.string() })),
    }),
  ),
});

type SeenRun = z.infer<typeof runsSchema>['runs'][number];

/** What `/metrics` counts of backups: by source, storage and result. */
function countedRuns(metrics: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [, labels = '', value] of metrics.matchAll(/^pgark_runs_total\{(.*)\} (\d+)$/gm)) {
    const of = (name: string): string => new RegExp(`${name}="([^"]*)"`).exec(labels)?.[1] ?? '';
    if (of('kind') === 'backup' && Number(value) > 0) {
      counts.set(`${of('source')} ${of('storage')} ${of('result')}`, Number(value));
    }
  }
  return counts;
}

function countedIn(runs: readonly SeenRun[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { source, storages } of runs) {
    for (const { storage, state } of storages) {
      const key = `${source ?? ''} ${storage} ${state}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  return counts;
}

test(`a daemon of three databases on two servers accounts for every run of ${MINUTES} minutes`, {
  timeout: (MINUTES + 5) * MINUTE_MS,
}, async () => {
  expect(MINUTES).toBeGreaterThanOrEqual(MINUTES_MIN);
  const { servers, clients } = await readMatrixFolders();
  const [older, newer] = [[...servers][0], [...servers].at(-1)];
  const client = [...clients.values()].at(-1);
  if (older === undefined || newer === undefined || older === newer || client === undefined) {
    throw new Error('PG_MATRIX_DIRS names only one version of the server, and this needs two');
  }
  await using folder = await makeTempDirectory();
  await using first = await startMatrixServer(...older);
  await using second = await startMatrixServer(...newer);
  for (const [server, database] of [
    [first, 'shop'],
    [first, 'crm'],
    [second, 'stats'],
    [second, 'marks'],
  ] as const) {
    await server.createDatabase(database);
    await server.query('CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i', database);
  }
  const ceph = await startCeph();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => ceph.stop());
  const { hostname, port } = new URL(ceph.endpoint);
  await using proxy = await startStoppableProxy({ host: hostname, port: Number(port) });
  const credentials = { accessKeyId: ceph.accessKey, secretAccessKey: ceph.secretKey };
  const s3 = new S3Client({ endpoint: ceph.endpoint, region: 'us-east-1', credentials, forcePathStyle: true });
  await s3.send(new CreateBucketCommand({ Bucket: 'soak' }));
  s3.destroy();

  const each = (server: typeof first, database: string, schedule: string): string =>
    `  ${database}: { url: ${JSON.stringify(server.url(database))}, jobs: { often: { format: plain, schedule: "${schedule}", to: [far, near] } } }\n`;
  await writeFile(
    folder.join('pgark.yaml'),
    `version: 1
storages:
  far: { type: s3, endpoint: "http://127.0.0.1:${proxy.port}", bucket: soak, access_key_id: ${ceph.accessKey}, secret_access_key: ${ceph.secretKey} }
  near: { type: file, path: backups }
defaults: { retry: { attempts: 1, delay: 5s } }
databases:
${each(first, 'shop', '* * * * *')}${each(first, 'crm', '* * * * *')}${each(second, 'stats', '* * * * *')}${each(second, 'marks', '*/5 * * * *')}`,
  );
  const env = { PGARK_CLIENT_DIR: client.binDir };
  const config = ['--config', folder.join('pgark.yaml')];
  await using daemon = startDaemon(env, config);
  const [listening] = await daemon.until('http.listening');
  const startedAt = Date.now();
  await delay((MINUTES / 3) * MINUTE_MS);
  const awayFrom = Date.now();
  await proxy.stop();
  await delay((MINUTES / 5) * MINUTE_MS);
  await proxy.start();
  const backSince = Date.now();
  await delay(startedAt + MINUTES * MINUTE_MS - Date.now());
  // In the midst of a minute nothing is due, and what was due has ended.
  await delay((MINUTE_MS + 40_000 - (Date.now() % MINUTE_MS)) % MINUTE_MS);
  const endedAt = Date.now();
  const scrape = await fetch(`http://127.0.0.1:${String(listening?.['port'])}/metrics`);
  const metrics = await scrape.text();
  await daemon.kill('SIGTERM');
  expect((await daemon.result).exitCode).toBe(0);

  let withoutRecord = 0;
  for (const [name, everyMinutes] of [
    ['shop', 1],
    ['crm', 1],
    ['stats', 1],
    ['marks', 5],
  ] as const) {
    const job = `${name}/often`;
    const marks: string[] = [];
    const stepMs = everyMinutes * MINUTE_MS;
    for (let at = Math.ceil(startedAt / stepMs) * stepMs; at < endedAt; at += stepMs) {
      marks.push(new Date(at).toISOString());
    }
    expect(marks.length).toBeGreaterThan(0);
    // Each mark's run began once, in its own minute; whatever came after is a second try of the same.
    const starts = daemon.of('job.started', job);
    expect(starts.filter((line) => line['attempt'] === 1).map((line) => line.dueAt)).toEqual(marks);
    for (const line of starts) {
      const lateMs = Date.parse(line.time) - Date.parse(line.dueAt ?? '');
      expect(lateMs).toBeGreaterThanOrEqual(0);
      expect(lateMs).toBeLessThan(MINUTE_MS);
    }
    const ends = daemon.lines.filter(
      (line) => line.job === job && /^job\.(succeeded|partial|failed)$/.test(line.event),
    );
    expect(ends).toHaveLength(starts.length);
    // While one storage was away every run reached the other, and said so; its second try was for the one alone.
    for (const [index, line] of starts.entries()) {
      const at = Date.parse(line.time);
      const end = ends[index];
      // There was no storage that could have kept one.
      if (line['attempt'] !== 1 && end?.event === 'job.failed') withoutRecord += 1;
      if (at > awayFrom && at + 30_000 < backSince) {
        expect(end?.event).toBe(line['attempt'] === 1 ? 'job.partial' : 'job.failed');
      } else if (Date.parse(end?.time ?? '') < awayFrom || at > backSince) expect(end?.event).toBe('job.succeeded');
    }
  }
  expect(daemon.of('backup.failed').every((line) => line['code'] === 'store-unreachable')).toBe(true);
  expect(daemon.of('backup.failed').length).toBeGreaterThan(0);

  const listed = await runPgark(['runs', '--limit', '10000', '-o', 'json', ...config], { env });
  expect(listed.exitCode).toBe(0);
  const runs = runsSchema.parse(JSON.parse(listed.stdout)).runs.filter(({ kind }) => kind === 'backup');
  expect(runs).toHaveLength(daemon.of('job.started').length - withoutRecord);
  expect(runs.every(({ state }) => state !== 'running')).toBe(true);
  expect(countedRuns(metrics)).toEqual(countedIn(runs));
});
