// npm run bench [-- --sizes 256MiB,1GiB,4GiB --rounds 3 --jobs 1,2,4 --only pgark-archive,directory --minutes 28 --bin-dir DIR
// --no-write | --render]: backs up and restores by pgark and by what people use otherwise, in turn, all into the same S3
// server, and puts what it measured into docs/benchmark/, as tables into docs/performance.md, and as charts beside them.
// --render makes tables and charts anew of what was measured before.
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { GIB } from '../../src/common/bytes.ts';
import { parseSizeBytes } from '../../src/config/units.ts';
import { findServerPrograms } from '../../src/postgres/server/server-programs.ts';
import { processors } from '../report.ts';
import { compare } from './compare.ts';
import { entrants } from './entrants.ts';
import { startPeerStore } from './peer-place.ts';
import { describePeers } from './peer-report.ts';
import { readResults, writeResults } from './publish.ts';
import type { Missing, PeerResults } from './results.ts';

/** Programs that contenders need and that scripts/bench.mjs could not install, separated by commas. */
const MISSING_VARIABLE = 'PGARK_BENCH_MISSING';

interface Options {
  readonly sizes: readonly { readonly name: string; readonly bytes: number }[];
  readonly rounds: number;
  readonly jobs: readonly number[];
  readonly only: readonly string[] | undefined;
  readonly minutesMax: number;
  readonly binDir: string | undefined;
  readonly write: boolean;
  readonly render: boolean;
}

function readOptions(): Options {
  const { values } = parseArgs({
    allowNegative: true,
    options: {
      sizes: { type: 'string', default: '256MiB,1GiB' },
      rounds: { type: 'string', default: '3' },
      jobs: { type: 'string', default: '1,2,4' },
      only: { type: 'string' },
      minutes: { type: 'string', default: '28' },
      'bin-dir': { type: 'string' },
      write: { type: 'boolean', default: true },
      render: { type: 'boolean', default: false },
    },
  });
  const sizes = values.sizes.split(',').map((name) => {
    const bytes = parseSizeBytes(name);
    if (bytes === undefined) throw new Error(`--sizes: ${name} is no size such as 256MiB or 1.5GiB`);
    return { name, bytes };
  });
  const number = (text: string, option: string): number => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < 1) throw new Error(`--${option} ${text} is no number from 1 on`);
    return value;
  };
  const only = values.only?.split(',');
  const unknown = only?.find((name) => !entrants.some((entrant) => entrant.name === name));
  if (unknown !== undefined) {
    throw new Error(`--only: ${unknown} is none of ${entrants.map(({ name }) => name).join(', ')}`);
  }
  return {
    sizes: sizes.sort((a, b) => a.bytes - b.bytes),
    rounds: number(values.rounds, 'rounds'),
    jobs: values.jobs.split(',').map((each) => number(each, 'jobs')),
    only,
    minutesMax: number(values.minutes, 'minutes'),
    binDir: values['bin-dir'],
    write: values.write,
    render: values.render,
  };
}

function missingOf(only: readonly string[] | undefined): readonly Missing[] {
  const absent = (process.env[MISSING_VARIABLE] ?? '').split(',').filter((name) => name !== '');
  return entrants
    .filter(({ name }) => only?.includes(name) ?? true)
    .flatMap(({ name, programs }) => {
      const lacking = programs.filter((program) => absent.includes(program));
      return lacking.length === 0 ? [] : [{ name, why: `not installed: ${lacking.join(', ')}` }];
    });
}

/** The first line of what each program says of itself; nothing of those that are not here. */
function versions(binDir: string): string[] {
  const commands: readonly (readonly [string, string])[] = [
    [path.join(binDir, 'pg_dump'), '--version'],
    ['gzip', '--version'],
    ['zstd', '--version'],
    ['rclone', 'version'],
    ['pgbackrest', 'version'],
    ['barman', '--version'],
    ['radosgw', '--version'],
  ];
  const told = commands.flatMap(([program, flag]) => {
    try {
      const output = execFileSync(program, [flag], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      return [
        output
          .split('\n')[0]
          ?.replaceAll('*', '')
          .replace(/,.*| \([0-9a-f]{40}\).*| by EnterpriseDB.*/u, '')
          .trim() ?? '',
      ];
    } catch {
      return [];
    }
  });
  return [`Node.js ${process.version}`, ...told];
}

async function measureAll(options: Options): Promise<PeerResults> {
  const beginMs = performance.now();
  const [first = 1, second] = options.jobs;
  const jobs = options.jobs.includes(2) ? 2 : (second ?? first);
  const jobsSize = (options.sizes.findLast(({ bytes }) => bytes <= GIB) ?? options.sizes[0])?.name ?? '';
  const binDir = options.binDir ?? (await findServerPrograms());
  await using store = await startPeerStore();
  const compared = await compare(store, {
    ...options,
    binDir,
    jobs,
    otherJobs: options.jobs.filter((each) => each !== jobs),
    jobsSize,
    missing: missingOf(options.only),
  });
  return {
    day: new Date().toISOString().slice(0, 10),
    minutes: Math.round((performance.now() - beginMs) / 60_000),
    machine: processors(),
    versions: versions(binDir),
    entrants: entrants
      .filter(({ name }) => options.only?.includes(name) ?? true)
      .map(({ name, label, kind }) => ({ name, label, kind })),
    jobs,
    jobsSize,
    ...compared,
  };
}

export async function benchPeers(): Promise<void> {
  const options = readOptions();
  const results = options.render ? await readResults() : await measureAll(options);
  console.log(describePeers(results));
  if (options.write) await writeResults(results);
}
