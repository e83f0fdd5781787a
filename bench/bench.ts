// npm run bench [-- archive --size 2.1GiB --rounds 3 --only pgark,zstd --bin-dir DIR --write]: measures pgark against what
// people use otherwise, side by side: the same database, the same store, in turn, round by round. --write puts the figures
// into docs/performance.md. Without a suite's name it compares whole backups and restores (peers/main.ts).
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { formatBytes } from '../src/common/bytes.ts';
import { messageOf } from '../src/common/errors.ts';
import { parseSizeBytes } from '../src/config/units.ts';
import { archiveSuite } from './archive-suite.ts';
import { benchPeers } from './peers/main.ts';
import { makePlace } from './place.ts';
import { physicalSuite } from './physical-suite.ts';
import { plainSuite } from './plain-suite.ts';
import { race, type RaceOptions } from './race.ts';
import { describeResults, writeInto } from './report.ts';
import { restoreSuite } from './restore-suite.ts';
import type { Suite } from './suite.ts';

const SUITES: readonly Suite[] = [plainSuite, archiveSuite, restoreSuite, physicalSuite];
const documentPath = path.resolve(import.meta.dirname, '../docs/performance.md');

interface Options extends RaceOptions {
  readonly suite: Suite;
  readonly dumpBytes: number;
  readonly binDir: string | undefined;
  readonly write: boolean;
}

function readOptions(): Options {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      size: { type: 'string', default: '1.5GiB' },
      rounds: { type: 'string', default: '5' },
      only: { type: 'string' },
      'bin-dir': { type: 'string' },
      write: { type: 'boolean', default: false },
    },
  });
  const [name] = positionals;
  const suite = SUITES.find((each) => each.name === name);
  if (suite === undefined) throw new Error(`${name} is none of ${SUITES.map((each) => each.name).join(', ')}`);
  const dumpBytes = parseSizeBytes(values.size);
  if (dumpBytes === undefined) throw new Error(`--size ${values.size} is no size such as 256MiB or 1.5GiB`);
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${values.rounds} is no number of rounds`);
  return { suite, dumpBytes, rounds, only: values.only?.split(','), binDir: values['bin-dir'], write: values.write };
}

/** The first words of each tool about itself. */
function versions(binDir: string): string[] {
  const first = (program: string, flag: string) =>
    execFileSync(program, [flag], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
      .split('\n')[0]
      ?.replaceAll('*', '')
      .trim() ?? '';
  return [
    `Node.js ${process.version}`,
    first(path.join(binDir, 'pg_dump'), '--version'),
    first('gzip', '--version'),
    // pigz tells its version on stderr in some releases; its name is enough.
    'pigz',
    first('zstd', '--version').replace(/,.*$/u, ''),
    first('curl', '--version').split(' ').slice(0, 2).join(' '),
  ];
}

async function main(): Promise<void> {
  const { suite, dumpBytes, binDir, write, ...options } = readOptions();
  console.error(`making a database of about ${formatBytes(dumpBytes)} of SQL`);
  await using place = await makePlace({ dumpBytes, serverSettings: suite.serverSettings, binDir });
  await suite.prepare?.(place);
  const result = await race(place, suite, options);
  const text = describeResults(result, suite, { ...place, versions: versions(place.server.binDir) });
  console.log(text);
  if (write) await writeInto(documentPath, suite.name, text);
}

try {
  // Each suite's name is a word; all else are options of the comparison.
  if (process.argv[2] === undefined || process.argv[2].startsWith('-')) await benchPeers();
  else await main();
} catch (error) {
  console.error(`error  ${messageOf(error)}`);
  process.exitCode = 1;
}
