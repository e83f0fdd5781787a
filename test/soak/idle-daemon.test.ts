import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { openStore } from '../../src/app.ts';
import { systemRandom } from '../../src/common/random.ts';
import { loadConfig } from '../../src/config/load.ts';
import { startThrowawayServer, type ThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { makeRunId } from '../../src/repository/ids.ts';
import { keys } from '../../src/repository/keys.ts';
import { serialiseRunRecord } from '../../src/runs/run-record.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { type CephServer, startCeph } from '../support/ceph.ts';
import { pgarkPath } from '../support/cli.ts';
import { startDaemon } from '../support/daemon.ts';
import { buildPackage } from '../support/package.ts';
import { processUsage } from '../support/process-usage.ts';
import { seedBackups } from '../support/seed.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

const MINUTE_MS = 60_000;
/** At least six: servers are tried every five minutes. */
const MINUTES = Number(process.env['PGARK_IDLE_MINUTES'] ?? '6');
const DATABASES = 50;
const NIGHTS = 7;
const RSS_MIB_MAX = 120;
/** Of a checkout: what Node.js keeps of reading TypeScript comes on top. */
const CHECKOUT_RSS_MIB_MAX = 130;
const CPU_RATIO_MAX = 0.01;
/** After the start, in which everything is read and tried for the first time. */
const SETTLE_MS = 30_000;
/** As Prometheus asks by default, or a little more often. */
const SCRAPE_MS = 15_000;

const names = Array.from({ length: DATABASES }, (_, index) => `shop_${index}`);
/** Half a day ago and half a day ahead: nothing becomes due meanwhile, and nothing was missed. */
const lastDueAt = new Date(Math.floor(Date.now() / 3_600_000 - 12) * 3_600_000);

let folder: TempDirectory;
let server: ThrowawayServer;
let ceph: CephServer;

beforeAll(async () => {
  [folder, server, ceph] = await Promise.all([
    makeTempDirectory(),
    startThrowawayServer({ listen: 'tcp' }),
    startCeph(),
  ]);
  const credentials = { accessKeyId: ceph.accessKey, secretAccessKey: ceph.secretKey };
  const s3 = new S3Client({ endpoint: ceph.endpoint, region: 'us-east-1', credentials, forcePathStyle: true });
  await s3.send(new CreateBucketCommand({ Bucket: 'soak' }));
  s3.destroy();
  const client = new Client({ connectionString: server.url().reveal() });
  await client.connect();
  for (const name of names) await client.query(`CREATE DATABASE ${name}`);
  await client.end();
  const jobs = { nightly: { format: 'plain', schedule: `0 ${lastDueAt.getUTCHours()} * * *`, retention: 'week' } };
  const config = {
    version: 1,
    storages: {
      far: {
        type: 's3',
        endpoint: ceph.endpoint,
        bucket: 'soak',
        access_key_id: ceph.accessKey,
        secret_access_key: ceph.secretKey,
      },
    },
    retention: { week: { keep: { within: '7d' } } },
    databases: Object.fromEntries(
      names.map((name) => [name, { url: server.url(name).reveal(), jobs, globals: 'none' }]),
    ),
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(config));
  await writeHistory();
}, 5 * MINUTE_MS);

afterAll(async () => {
  await Promise.all([server?.stop(), ceph?.stop()]);
  await folder?.[Symbol.asyncDispose]();
});

/** A week of nights, as backups and the records of their runs. */
async function writeHistory(): Promise<void> {
  const config = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path });
  const storage = config.storages.get('far');
  if (storage === undefined) throw new Error('there is one storage');
  const store = await openStore(storage);
  const nights = Array.from(
    { length: NIGHTS },
    (_, index) => new Date(lastDueAt.getTime() - index * 24 * 60 * MINUTE_MS),
  );
  for (const name of names) {
    await seedBackups(store, { source: name, database: name, times: nights });
    await Promise.all(nights.map((at) => writeRun(store, name, at)));
  }
  await store.close();
}

async function writeRun(store: ObjectStore, name: string, startedAt: Date): Promise<void> {
  const id = makeRunId(startedAt, systemRandom);
  const endedAt = new Date(startedAt.getTime() + MINUTE_MS).toISOString();
  const record = serialiseRunRecord({
    layout: 1,
    id,
    kind: 'backup',
    state: 'succeeded',
    source: name,
    database: name,
    host: 'earlier',
    pid: 1,
    startedAt: startedAt.toISOString(),
    endedAt,
    pgarkVersion: '0.1.0',
  });
  await store.putSmall(keys.run(startedAt, id), record);
}

async function asked(port: string, path: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  const text = await response.text();
  expect({ status: response.status, text }).toMatchObject({ status: 200 });
  return text;
}

/** The very first start of a checkout reads TypeScript, and keeps what it reads for those after it. */
async function startOnce(program: string): Promise<void> {
  await using daemon = startDaemon({}, ['--config', 'pgark.yaml'], { cwd: folder.path, program });
  await daemon.until('connectivity.ok', { count: DATABASES });
  await daemon.kill('SIGTERM');
  await daemon.result;
}

/** Runs a daemon that is asked for metrics and health as monitors do, and has nothing else to do. */
async function watchIdleDaemon(program: string) {
  await startOnce(program);
  await using daemon = startDaemon({}, ['--config', 'pgark.yaml'], { cwd: folder.path, program });
  const [listening] = await daemon.until('http.listening');
  const port = String(listening?.['port']);
  await daemon.until('connectivity.ok', { count: DATABASES });
  await delay(SETTLE_MS);
  const pid = await daemon.pid;
  const before = await processUsage(pid);
  const startedMs = performance.now();
  let rssBytesMax = 0;
  let scrapes = 0;
  for (;;) {
    const passedMs = performance.now() - startedMs;
    const now = await processUsage(pid);
    rssBytesMax = Math.max(rssBytesMax, now.rssBytes);
    if (passedMs >= MINUTES * MINUTE_MS) {
      await daemon.kill('SIGTERM');
      expect((await daemon.result).exitCode).toBe(0);
      expect(daemon.of('job.started')).toEqual([]);
      return {
        rssMib: rssBytesMax / MIB,
        cpuRatio: (now.cpuMs - before.cpuMs) / passedMs,
        peakMib: now.peakRssBytes / MIB,
      };
    }
    if (passedMs >= scrapes * SCRAPE_MS) {
      scrapes += 1;
      expect(await asked(port, '/metrics')).toContain('pgark_backup_overdue{source="shop_49"');
      await asked(port, '/health');
    }
    await delay(1_000);
  }
}

describe.concurrent('a daemon of 50 databases on S3 that has nothing to do', () => {
  test.each([
    ['of the checkout', CHECKOUT_RSS_MIB_MAX, () => Promise.resolve(pgarkPath)],
    ['of the built package', RSS_MIB_MAX, () => buildPackage(folder)],
  ])(
    '%s needs little memory and next to no processor',
    { timeout: (MINUTES + 5) * MINUTE_MS },
    async (name, rssMibMax, build) => {
      const { rssMib, cpuRatio, peakMib } = await watchIdleDaemon(await build());
      const cpu = `${(cpuRatio * 100).toFixed(2)} % of a processor`;
      process.stdout.write(
        `idle daemon ${name}: at most ${rssMib.toFixed(1)} MiB, ${cpu}; peak at start ${peakMib.toFixed(1)} MiB\n`,
      );
      expect(rssMib).toBeLessThan(rssMibMax);
      expect(cpuRatio).toBeLessThan(CPU_RATIO_MAX);
    },
  );
});
