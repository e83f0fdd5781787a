import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { createMixedDatabase } from '../../bench/mixed-database.ts';
import { MIB } from '../../src/common/bytes.ts';
import { runPgark } from '../support/cli.ts';
import { urlOf } from '../support/backups.ts';
import { postgresFacts, s3Facts } from '../support/facts.ts';
import { createDatabase } from '../support/postgres.ts';
import { createBucket } from '../support/s3.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';

const PEAK_BYTES_MAX = 256 * MIB;
/** What two runs of the very same size may differ by, and more. */
const GROWTH_BYTES_MAX = 48 * MIB;
const POLL_MS = 20;

/** The kernel's own record of the most memory that a process had; it only grows, so that the last look is the peak. */
async function peakBytes(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const kib = /^VmHWM:\s+(\d+) kB$/mu.exec(status)?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}

/** Looks at the process until it is gone. */
async function watchPeak(pid: number): Promise<number> {
  let peak = 0;
  for (;;) {
    const bytes = await peakBytes(pid);
    if (bytes === undefined) return peak;
    peak = bytes;
    await delay(POLL_MS);
  }
}

/** Backs up to a bucket of its own and gives the peak of pgark's own process. Its launcher becomes that process. */
async function peakOfBackup(url: string, settings: Readonly<Record<string, string>>) {
  await using bucket = await createBucket();
  let watching: Promise<number> | undefined;
  const result = await runPgark(['backup', '--output', 'json'], {
    env: { DATABASE_URL: url, ...bucket.env, ...settings },
    onStarted: ({ pid }) => {
      watching = watchPeak(pid);
    },
  });
  expect(result).toMatchObject({ exitCode: 0 });
  const plainBytes = /"plain_bytes": ?(\d+)/u.exec(result.stdout)?.[1];
  return { peak: (await watching) ?? 0, plainBytes: Number(plainBytes) };
}

async function createMixed(dumpBytes: number) {
  const database = await createDatabase();
  const client = await database.connect();
  try {
    await createMixedDatabase(client, dumpBytes);
  } finally {
    await client.end();
  }
  return database;
}

describe('memory of a backup to S3', () => {
  test('stays below 256 MiB also where several connections dump at once', { timeout: 600_000 }, async () => {
    await using large = await createMixed(300 * MIB);
    const settings = { BACKUP_FORMAT: 'directory', BACKUP_JOBS: '4', BACKUP_COMPRESSION: 'none' };
    const { peak, plainBytes } = await peakOfBackup(large.url, settings);
    expect(plainBytes).toBeGreaterThan(225 * MIB);
    expect(peak).toBeLessThan(PEAK_BYTES_MAX);
  });

  test('stays below 256 MiB and does not grow with the database, whatever the compression', {
    timeout: 600_000,
  }, async () => {
    await using small = await createMixed(48 * MIB);
    await using large = await createMixed(224 * MIB);
    for (const compression of ['gzip', 'zstd']) {
      const settings = { BACKUP_COMPRESSION: compression };
      const ofSmall = await peakOfBackup(small.url, settings);
      const ofLarge = await peakOfBackup(large.url, settings);
      expect(ofSmall.plainBytes).toBeGreaterThan(40 * MIB);
      expect(ofLarge.plainBytes).toBeGreaterThan(200 * MIB);
      expect(ofLarge.peak).toBeGreaterThan(40 * MIB);
      expect(ofLarge.peak).toBeLessThan(PEAK_BYTES_MAX);
      expect(ofLarge.peak - ofSmall.peak).toBeLessThan(GROWTH_BYTES_MAX);
    }
  });
});

describe('memory of a backup to two storages', () => {
  test('stays flat when one of them is far slower than the dump', { timeout: 600_000 }, async () => {
    await using database = await createMixed(128 * MIB);
    await using postgres = await startTcpProxy(postgresFacts());
    await using bucket = await createBucket();
    await using directory = await makeTempDirectory();
    const { hostname, port } = new URL(s3Facts().endpoint);
    const target = { host: hostname, port: Number(port) };
    // Each of the four parts in flight has a connection of its own.
    await using slow = await startTcpProxy(target, { toServerBytesPerSecond: 2 * MIB });
    const job = { schedule: '@daily', format: 'plain', compression: 'none', to: ['slow', 'quick'] };
    const configuration = {
      version: 1,
      storages: {
        slow: bucket.inFile(`http://127.0.0.1:${slow.port}`),
        quick: { type: 'file', path: directory.join('backups') },
      },
      databases: { mixed: { url: urlOf(database.name, { port: postgres.port }), jobs: { all: job } } },
    };
    const file = directory.join('pgark.yaml');
    await writeFile(file, JSON.stringify(configuration), { mode: 0o600 });
    let watching: Promise<number> | undefined;
    const startedAt = performance.now();
    const result = await runPgark(['backup', '--output', 'json'], {
      env: { PGARK_CONFIG: file },
      onStarted: ({ pid }) => {
        watching = watchPeak(pid);
      },
    });
    expect(result).toMatchObject({ exitCode: 0 });
    // The slow one has set the pace: the dump alone takes a second or two.
    expect(performance.now() - startedAt).toBeGreaterThan(12_000);
    expect(JSON.parse(result.stdout)).toMatchObject({
      results: [
        { storage: 'slow', state: 'committed' },
        { storage: 'quick', state: 'committed' },
      ],
    });
    const peak = (await watching) ?? 0;
    expect(peak).toBeGreaterThan(40 * MIB);
    expect(peak).toBeLessThan(PEAK_BYTES_MAX);
  });
});
