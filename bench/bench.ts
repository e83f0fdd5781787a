// npm run bench [-- --size 1.5GiB --rounds 5 --only pgark-gzip,gzip --write]: measures pgark against pipelines of stock
// tools, side by side: the same database, the same store, in turn, round by round. --write puts the figures into
// docs/performance.md.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Client } from 'pg';
import { formatBytes } from '../src/common/bytes.ts';
import { messageOf } from '../src/common/errors.ts';
import { parseSizeBytes } from '../src/config/units.ts';
import { startThrowawayServer, type ThrowawayServer } from '../src/postgres/server/throwaway-server.ts';
import { contenders, type Place } from './contenders.ts';
import { measure, type Measurement } from './measure.ts';
import { createMixedDatabase } from './mixed-database.ts';
import { describeResults, type Result, writeInto } from './report.ts';
import { storedBytes } from './stored-bytes.ts';

const DATABASE = 'bench';
const documentPath = path.resolve(import.meta.dirname, '../docs/performance.md');

interface Options {
  readonly dumpBytes: number;
  readonly rounds: number;
  readonly only: readonly string[] | undefined;
  readonly write: boolean;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '1.5GiB' },
      rounds: { type: 'string', default: '5' },
      only: { type: 'string' },
      write: { type: 'boolean', default: false },
    },
  });
  const dumpBytes = parseSizeBytes(values.size);
  if (dumpBytes === undefined) throw new Error(`--size ${values.size} is no size such as 256MiB or 1.5GiB`);
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${values.rounds} is no number of rounds`);
  return { dumpBytes, rounds, only: values.only?.split(','), write: values.write };
}

/** Starts the store that throws everything away, as a process of its own. */
async function startSink(): Promise<{ readonly endpoint: string } & AsyncDisposable> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'sink.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [port] = (await once(createInterface(child.stdout), 'line')) as [string];
  return {
    endpoint: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      const exited = once(child, 'exit');
      child.stdin.end();
      await exited;
    },
  };
}

async function makeDatabase(server: ThrowawayServer, dumpBytes: number): Promise<void> {
  const admin = new Client({ connectionString: server.url().reveal() });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${DATABASE}`);
  await admin.end();
  const client = new Client({ connectionString: server.url(DATABASE).reveal() });
  await client.connect();
  await createMixedDatabase(client, dumpBytes);
  await client.query('VACUUM ANALYZE');
  await client.end();
}

/** Reads the whole database once, so that no contender is the first, and returns the length of its dump. */
async function dumpLength(place: Place): Promise<number> {
  const child = spawn('pg_dump', [place.server.url(place.database).reveal()], { stdio: ['ignore', 'pipe', 'inherit'] });
  let bytes = 0;
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) bytes += chunk.length;
  return bytes;
}

async function race(place: Place, options: Options): Promise<Result[]> {
  const entries = contenders(place, 'warm-up').filter(({ name }) => options.only?.includes(name) ?? true);
  if (entries.length === 0)
    throw new Error(
      `--only names none of ${contenders(place, '')
        .map(({ name }) => name)
        .join(', ')}`,
    );
  const rounds = new Map<string, Measurement[]>(entries.map(({ name }) => [name, []]));
  const stored = new Map<string, number>();
  for (let round = 1; round <= options.rounds; round += 1) {
    for (const { name, label } of entries) {
      // A bucket for each run: nobody finds anything of an earlier one.
      const bucket = `${name}-${round}`;
      const contender = contenders(place, bucket).find((each) => each.name === name);
      if (contender === undefined) continue;
      const measurement = await measure(contender.program, contender.args, contender.env);
      rounds.get(name)?.push(measurement);
      stored.set(name, await storedBytes(place.endpoint, bucket));
      const { wallS, cpuS, rssKib } = measurement;
      console.error(
        `round ${round}: ${label}: ${wallS.toFixed(2)} s, CPU ${cpuS.toFixed(2)} s, peak ${(rssKib / 1024).toFixed(0)} MiB`,
      );
    }
  }
  return entries.map(({ name, label }) => ({
    name,
    label,
    storedBytes: stored.get(name) ?? 0,
    rounds: rounds.get(name) ?? [],
  }));
}

/** The first words of each tool about itself. */
function versions(): string[] {
  const first = (program: string, flag: string) =>
    execFileSync(program, [flag], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
      .split('\n')[0]
      ?.replaceAll('*', '')
      .trim() ?? '';
  return [
    `Node.js ${process.version}`,
    first('pg_dump', '--version'),
    first('gzip', '--version'),
    // pigz tells its version on stderr in some releases; its name is enough.
    'pigz',
    first('zstd', '--version').replace(/,.*$/u, ''),
    first('curl', '--version').split(' ').slice(0, 2).join(' '),
  ];
}

async function main(): Promise<void> {
  const options = readOptions();
  await using server = await startThrowawayServer({
    settings: { shared_buffers: '256MB', wal_level: 'minimal', max_wal_senders: '0', autovacuum: 'off' },
  });
  await using sink = await startSink();
  const place = { server, database: DATABASE, endpoint: sink.endpoint };
  console.error(`making a database of about ${formatBytes(options.dumpBytes)} of SQL`);
  await makeDatabase(server, options.dumpBytes);
  const dumpBytes = await dumpLength(place);
  const results = await race(place, options);
  const text = describeResults(results, { dumpBytes, rounds: options.rounds, versions: versions() });
  console.log(text);
  if (options.write) await writeInto(documentPath, text);
}

try {
  await main();
} catch (error) {
  console.error(`error  ${messageOf(error)}`);
  process.exitCode = 1;
}
