// npm run bench:wal [-- --size 1GiB --rounds 3 --rate 100MB --seconds 30 --distant --bin-dir DIR --write]: measures
// `pgark wal receive`, which compresses (zstd 1), encrypts (age), and puts into a store that answers like S3 and throws it away:
// first how fast it takes WAL that a server has kept for it, beside pg_receivewal, which writes it to the disk as it is; then
// whether it keeps up with a server that writes so much a second on the same processors. --write puts the figures into
// docs/performance.md.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Client } from 'pg';
import { formatBytes, GIB, MIB } from '../src/common/bytes.ts';
import { messageOf } from '../src/common/errors.ts';
import { parseSizeBytes } from '../src/config/units.ts';
import { startThrowawayServer, type ThrowawayServer } from '../src/postgres/server/throwaway-server.ts';
import { formatLsn, type Lsn, parseLsn } from '../src/postgres/wal/lsn.ts';
import { segmentStartAt } from '../src/postgres/wal/segment.ts';
import { DISTANCE } from './place.ts';
import { processors, writeInto } from './report.ts';
import { median, spread } from './statistics.ts';
import { type Sink, startSink } from './stores.ts';
import { startReceiver } from './wal-receiver.ts';

const SEGMENT_BYTES = 16 * MIB;
const documentPath = path.resolve(import.meta.dirname, '../docs/performance.md');

/** Rows as applications write them: numbers and times that repeat, and texts and digests that do not. */
const ROWS = `select i, now(), 'customer ' || i % 1000, md5(random()::text), gen_random_uuid() from generate_series(1, 200000) i`;
/** The same as text in pieces that go into the WAL without costing the server much else. */
const PIECES = `create table piece as select string_agg(r::text, '') as t from (${ROWS}) r group by i / 700`;
const BATCH_SQL = `select count(pg_logical_emit_message(false, 'bench', t)) from piece`;

interface Taken {
  readonly seconds: number;
  readonly cpuS: number;
  readonly storeS: number;
  readonly peakMib: number;
}

/** A server, and a connection to it. */
class Source implements AsyncDisposable {
  readonly server: ThrowawayServer;
  readonly #client: Client;

  static async start(binDir: string | undefined): Promise<Source> {
    const settings = { max_wal_size: '64GB', max_replication_slots: '20', autovacuum: 'off', shared_buffers: '256MB' };
    const server = await startThrowawayServer({ settings, ...(binDir === undefined ? {} : { binDir }) });
    const client = new Client({ connectionString: server.url().reveal() });
    await client.connect();
    return new Source(server, client);
  }

  private constructor(server: ThrowawayServer, client: Client) {
    this.server = server;
    this.#client = client;
  }

  async value(sql: string): Promise<string> {
    return String(Object.values((await this.#client.query<Record<string, unknown>>(sql)).rows[0] ?? {})[0]);
  }

  async makeSlot(name: string): Promise<void> {
    await this.value(`select pg_create_physical_replication_slot('${name}', true)`);
  }

  async end(): Promise<Lsn> {
    return parseLsn(await this.value('select pg_current_wal_flush_lsn()'));
  }

  /** Up to where the slot keeps nothing any more. */
  async confirmed(slot: string): Promise<Lsn> {
    return parseLsn(await this.value(`select restart_lsn from pg_replication_slots where slot_name = '${slot}'`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end();
    await this.server[Symbol.asyncDispose]();
  }
}

/** Until all whole segments before the position are stored and confirmed. */
async function receive(source: Source, sink: Sink, slot: string, end: Lsn): Promise<Taken> {
  await using receiver = await startReceiver({ server: source.server, sink, slot });
  while ((await source.confirmed(slot)) < end) {
    receiver.check();
    await delay(50);
  }
  return await receiver.taken();
}

async function receiveToDisk({ server }: Source, slot: string, end: Lsn): Promise<number> {
  const folder = await mkdtemp(path.join(tmpdir(), 'pgark-bench-'));
  try {
    const begunMs = performance.now();
    const args = ['--slot', slot, '--no-loop', '--no-sync', `--endpos=${formatLsn(end)}`, '-D', folder];
    const child = spawn(path.join(server.binDir, 'pg_receivewal'), [...args, '-d', server.url().reveal()], {
      stdio: 'inherit',
    });
    const [status] = (await once(child, 'exit')) as [number | null];
    const seconds = (performance.now() - begunMs) / 1_000;
    if (status !== 0 || (await readdir(folder)).length === 0) throw new Error(`pg_receivewal ended with ${status}`);
    return seconds;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Behind {
  readonly bytesPerSecond: number;
  /** MiB that are not confirmed, each second. */
  readonly mib: readonly number[];
  readonly taken: Taken;
}

/** Writes so much a second, and looks how far the receiver is behind. */
async function keepUp(source: Source, sink: Sink, bytesPerSecond: number, seconds: number): Promise<Behind> {
  const slot = 'bench_rate';
  await source.makeSlot(slot);
  await using receiver = await startReceiver({ server: source.server, sink, slot });
  const begin = await source.end();
  const begunMs = performance.now();
  const mib: number[] = [];
  let end = begin;
  for (let passedS = 0; passedS < seconds; ) {
    receiver.check();
    await source.value(BATCH_SQL);
    end = await source.end();
    const earlyMs = (Number(end - begin) / bytesPerSecond) * 1_000 - (performance.now() - begunMs);
    if (earlyMs > 0) await delay(earlyMs);
    passedS = (performance.now() - begunMs) / 1_000;
    if (passedS > mib.length + 1) mib.push(Number(end - (await source.confirmed(slot))) / MIB);
  }
  const takenS = (performance.now() - begunMs) / 1_000;
  return { bytesPerSecond: Number(end - begin) / takenS, mib, taken: await receiver.taken() };
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '1GiB' },
      rounds: { type: 'string', default: '3' },
      rate: { type: 'string', default: '100MB' },
      seconds: { type: 'string', default: '30' },
      distant: { type: 'boolean', default: false },
      'bin-dir': { type: 'string' },
      write: { type: 'boolean', default: false },
    },
  });
  const [bytes, rate] = [parseSizeBytes(values.size), parseSizeBytes(values.rate)];
  const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
  if (bytes === undefined || rate === undefined || !Number.isInteger(rounds) || rounds < 1 || !(seconds >= 0)) {
    throw new Error('--size 1GiB --rounds 3 --rate 100MB --seconds 30');
  }
  return { bytes, rate, rounds, seconds, distant: values.distant, binDir: values['bin-dir'], write: values.write };
}

/** A row of the table. CPU is that of each GiB of WAL. */
function figures(label: string, bytes: number, all: readonly Partial<Taken>[]): string {
  const seconds = spread(all.map((each) => each.seconds ?? Number.NaN));
  const perGib = (of: (each: Partial<Taken>) => number | undefined): string => {
    const values = all.flatMap((each) => of(each) ?? []);
    return values.length === 0 ? '' : (median(values) / (bytes / GIB)).toFixed(1);
  };
  const peak = all.flatMap(({ peakMib }) => peakMib ?? []);
  const cells = [
    `\`${label}\``,
    `${seconds.median.toFixed(1)} (${seconds.min.toFixed(1)}–${seconds.max.toFixed(1)})`,
    (bytes / 1e6 / seconds.median).toFixed(0),
    perGib(({ cpuS }) => cpuS),
    perGib(({ storeS }) => storeS),
    peak.length === 0 ? '' : Math.max(...peak).toFixed(0),
  ];
  return `| ${cells.join(' | ')} |`;
}

function describeBehind({ bytesPerSecond, mib, taken }: Behind, rate: number): readonly string[] {
  const third = Math.ceil(mib.length / 3);
  const [middle, last] = [median(mib.slice(third, 2 * third)), median(mib.slice(2 * third))];
  // A segment that is being filled, one that is being stored, and one between: it is never less.
  const verdict = last <= middle + SEGMENT_BYTES / MIB && bytesPerSecond >= 0.97 * rate ? 'met' : '**missed**';
  return [
    `A server that writes ${(bytesPerSecond / 1e6).toFixed(0)} MB/s (wanted: ${(rate / 1e6).toFixed(0)}) for ${mib.length} s: ${middle.toFixed(0)} MiB are not confirmed in the middle third (median), ${last.toFixed(0)} in the last one, ${Math.max(...mib).toFixed(0)} at the most; peak ${taken.peakMib.toFixed(0)} MiB. Target: it does not grow, ${verdict}.`,
  ];
}

async function main(): Promise<void> {
  const { bytes, rate, rounds, seconds, distant, binDir, write } = readOptions();
  await using source = await Source.start(binDir);
  await using sink = await startSink(distant ? { distance: DISTANCE } : {});
  console.error(`writing ${formatBytes(bytes)} of WAL`);
  await source.value('create table load (i int, at timestamptz, c text, d text, u uuid)');
  await source.value('checkpoint');
  for (let round = 1; round <= rounds; round += 1) {
    await source.makeSlot(`pgark_${round}`);
    await source.makeSlot(`disk_${round}`);
  }
  const start = segmentStartAt(await source.confirmed('pgark_1'), SEGMENT_BYTES);
  while ((await source.end()) - start < BigInt(bytes)) await source.value(`insert into load ${ROWS}`);
  const end = segmentStartAt(await source.end(), SEGMENT_BYTES);
  const own: Taken[] = [];
  const disk: Partial<Taken>[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    disk.push({ seconds: await receiveToDisk(source, `disk_${round}`, end) });
    const taken = await receive(source, sink, `pgark_${round}`, end);
    own.push(taken);
    const speed = Number(end - start) / 1e6 / taken.seconds;
    console.error(
      `round ${round}: ${speed.toFixed(0)} MB/s, CPU ${taken.cpuS.toFixed(1)} s, peak ${taken.peakMib.toFixed(0)} MiB`,
    );
  }
  const text = [
    `${formatBytes(Number(end - start))} of WAL; ${rounds} rounds in turn, ${processors()}; Node.js ${process.version}.`,
    '',
    '| | seconds | MB/s | client CPU | store CPU | peak MiB |',
    '|---|---|---|---|---|---|',
    figures('pg_receivewal --no-sync', Number(end - start), disk),
    figures('pgark wal receive', Number(end - start), own),
  ];
  if (seconds > 0) {
    await source.value(PIECES);
    text.push('', ...describeBehind(await keepUp(source, sink, rate, seconds), rate));
  }
  console.log(text.join('\n'));
  if (write) await writeInto(documentPath, 'wal', text.join('\n'));
}

try {
  await main();
} catch (error) {
  console.error(`error  ${messageOf(error)}`);
  process.exitCode = 1;
}
