// npm run bench:wal [-- --size 1GiB --rounds 3]: measures `pgark wal receive` by itself: how fast it takes WAL that a server has
// kept for it, compresses it (zstd 1), encrypts it (age) and puts it into a store that answers like S3 and throws it away, and
// the most memory that it takes. As long as a server writes less than that, the receiver does not fall behind.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Client } from 'pg';
import { formatBytes, MIB } from '../src/common/bytes.ts';
import { messageOf } from '../src/common/errors.ts';
import { parseSizeBytes } from '../src/config/units.ts';
import { startThrowawayServer, type ThrowawayServer } from '../src/postgres/server/throwaway-server.ts';
import { parseLsn } from '../src/postgres/wal/lsn.ts';
import { segmentAt, segmentName, segmentStartAt } from '../src/postgres/wal/segment.ts';
import { walKey } from '../src/repository/wal-keys.ts';
import { processorTimeOf } from './processor-time.ts';
import { type Sink, startSink } from './stores.ts';

const SEGMENT_BYTES = 16 * MIB;
const SOURCE = 'postgres';
const PREFIX = 'bench';
/** A public key that nobody has the other half of. */
const AGE_RECIPIENT = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p';
const pgark = path.resolve(import.meta.dirname, '../bin/pgark');

/** Rows as applications write them: numbers and times that repeat, and texts and digests that do not. */
const LOAD = `insert into load select i, now(), 'customer ' || i % 1000, md5(random()::text), gen_random_uuid()
  from generate_series(1, 200000) i`;

interface Prepared {
  readonly systemIdentifier: string;
  /** Where the last whole segment ends. */
  readonly end: bigint;
  readonly start: bigint;
}

/** Writes WAL that the slots of all rounds keep. */
async function prepare(server: ThrowawayServer, bytes: number, rounds: number): Promise<Prepared> {
  const client = new Client({ connectionString: server.url().reveal() });
  await client.connect();
  const value = async (sql: string): Promise<string> =>
    String(Object.values((await client.query<Record<string, unknown>>(sql)).rows[0] ?? {})[0]);
  try {
    await client.query('create table load (i int primary key, at timestamptz, c text, d text, u uuid)');
    await client.query('alter table load drop constraint load_pkey');
    await client.query('checkpoint');
    for (let round = 1; round <= rounds; round += 1) {
      await client.query(`select pg_create_physical_replication_slot('bench_${round}', true)`);
    }
    const start = parseLsn(await value('select min(restart_lsn) from pg_replication_slots'));
    let end = start;
    while (end - start < BigInt(bytes)) {
      await client.query(LOAD);
      end = parseLsn(await value('select pg_current_wal_flush_lsn()'));
    }
    const systemIdentifier = await value('select system_identifier from pg_control_system()');
    return {
      systemIdentifier,
      start: segmentStartAt(start, SEGMENT_BYTES),
      end: segmentStartAt(end, SEGMENT_BYTES),
    };
  } finally {
    await client.end();
  }
}

/** One run of the receiver, from the moment it streams until the last whole segment is stored. */
async function receive(server: ThrowawayServer, sink: Sink, { systemIdentifier, start, end }: Prepared, round: number) {
  const bucket = `wal-${round}`;
  const child = spawn(pgark, ['wal', 'receive', '--slot', `bench_${round}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      DATABASE_URL: server.url().reveal(),
      LOG_FORMAT: 'json',
      S3_ENDPOINT: sink.endpoint,
      S3_BUCKET: bucket,
      BACKUP_PREFIX: PREFIX,
      S3_ACCESS_KEY_ID: 'bench',
      S3_SECRET_ACCESS_KEY: 'bench-secret',
      BACKUP_ENCRYPTION: 'age',
      BACKUP_ENCRYPTION_KEY: AGE_RECIPIENT,
    },
  });
  const exited = once(child, 'exit');
  const log: string[] = [];
  const streams = new Promise<void>((resolve) => {
    createInterface(child.stderr).on('line', (line) => {
      log.push(line);
      if (line.includes('"wal.streaming"')) resolve();
    });
  });
  await Promise.race([streams, exited.then(() => Promise.reject(new Error(log.join('\n'))))]);
  const begunMs = performance.now();
  const pid = await processOf(child.pid ?? 0);
  const before = { own: await processorTimeOf(pid), store: await processorTimeOf(sink.pid) };
  const name = segmentName(segmentAt(1, end - 1n, SEGMENT_BYTES), SEGMENT_BYTES);
  const key = walKey({ source: SOURCE, systemIdentifier }, { kind: 'segment', name }, '.zst.age');
  const isStored = async (): Promise<boolean> =>
    (await fetch(`${sink.endpoint}/${bucket}/${PREFIX}/${key}`, { method: 'HEAD' })).status === 200;
  while (!(await isStored())) {
    if (child.exitCode !== null) throw new Error(log.join('\n'));
    await delay(50);
  }
  const seconds = (performance.now() - begunMs) / 1_000;
  const cpuS = (await processorTimeOf(pid)) - before.own;
  const storeS = (await processorTimeOf(sink.pid)) - before.store;
  const peakKib = Number(/VmHWM:\s+(\d+)/u.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);
  process.kill(pid, 'SIGTERM');
  await exited;
  const bytes = Number(end - start);
  return { seconds, cpuS, storeS, megabytesPerSecond: bytes / 1e6 / seconds, peakMib: peakKib / 1024 };
}

/** pgark is started by a shell, which may stay its parent. */
async function processOf(pid: number): Promise<number> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/u.test(name)) continue;
    const status = await readFile(`/proc/${name}/status`, 'utf8').catch(() => '');
    if (new RegExp(`^PPid:\\s+${pid}$`, 'mu').test(status)) return Number(name);
  }
  return pid;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { size: { type: 'string', default: '1GiB' }, rounds: { type: 'string', default: '3' } },
  });
  const bytes = parseSizeBytes(values.size);
  const rounds = Number(values.rounds);
  if (bytes === undefined || !Number.isInteger(rounds) || rounds < 1) throw new Error('--size 1GiB --rounds 3');
  await using server = await startThrowawayServer({
    settings: {
      wal_level: 'replica',
      max_wal_senders: '4',
      max_replication_slots: '20',
      max_wal_size: '32GB',
      autovacuum: 'off',
    },
  });
  await using sink = await startSink();
  console.error(`writing ${formatBytes(bytes)} of WAL`);
  const prepared = await prepare(server, bytes, rounds);
  for (let round = 1; round <= rounds; round += 1) {
    const { megabytesPerSecond, seconds, cpuS, storeS, peakMib } = await receive(server, sink, prepared, round);
    console.log(
      `round ${round}: ${megabytesPerSecond.toFixed(0)} MB/s (${seconds.toFixed(1)} s, CPU ${cpuS.toFixed(1)} s, store ${storeS.toFixed(1)} s), peak ${peakMib.toFixed(0)} MiB`,
    );
  }
}

try {
  await main();
} catch (error) {
  console.error(`error  ${messageOf(error)}`);
  process.exitCode = 1;
}
