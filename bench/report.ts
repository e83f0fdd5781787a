import { readFile, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { MIB } from '../src/common/bytes.ts';
import type { Measurement } from './measure.ts';
import { median, spread } from './statistics.ts';

/** All rounds of one contender. */
export interface Result {
  readonly name: string;
  readonly label: string;
  readonly storedBytes: number;
  readonly rounds: readonly Measurement[];
}

export interface Facts {
  readonly dumpBytes: number;
  readonly rounds: number;
  readonly versions: readonly string[];
}

/** What pgark promises: how many times as fast as a pipeline it is at the least. */
const TARGETS = [
  { faster: 'pgark-gzip', than: 'gzip', ratioMin: 2 },
  { faster: 'pgark-gzip', than: 'pigz', ratioMin: 1.05 },
  { faster: 'pgark-zstd', than: 'gzip', ratioMin: 4 },
  { faster: 'pgark-zstd', than: 'zstd', ratioMin: 0.95 },
] as const;

const BEGIN = '<!-- bench: begin -->';
const END = '<!-- bench: end -->';

/** Two tables in Markdown: the figures, and the ratios with their spread over the rounds. */
export function describeResults(results: readonly Result[], facts: Facts): string {
  return [
    `${(facts.dumpBytes / 1e9).toFixed(2)} GB of SQL, ${facts.rounds} rounds in turn, ${processors()}; ${facts.versions.join(', ')}.`,
    '',
    '| | seconds | MB/s | CPU s/GB | peak MiB | stored |',
    '|---|---|---|---|---|---|',
    ...results.map((result) => figures(result, facts)),
    '',
    '| | ratio | spread | target |',
    '|---|---|---|---|',
    ...ratios(results),
  ].join('\n');
}

function processors(): string {
  const [first] = cpus();
  return `${cpus().length} × ${first?.model.trim() ?? 'unknown processor'}`;
}

function figures(result: Result, { dumpBytes }: Facts): string {
  const wallS = spread(result.rounds.map((round) => round.wallS));
  const cpuS = median(result.rounds.map((round) => round.cpuS));
  const rssMib = Math.max(...result.rounds.map((round) => round.rssKib)) / 1024;
  const cells = [
    `\`${result.label.replaceAll('|', '\\|')}\``,
    `${wallS.median.toFixed(1)} (${wallS.min.toFixed(1)}–${wallS.max.toFixed(1)})`,
    (dumpBytes / 1e6 / wallS.median).toFixed(0),
    (cpuS / (dumpBytes / 1e9)).toFixed(1),
    rssMib.toFixed(0),
    `${(result.storedBytes / MIB).toFixed(0)} MiB`,
  ];
  return `| ${cells.join(' | ')} |`;
}

/** Each round's ratio compares runs that followed each other, so that a busy machine troubles both. */
function ratios(results: readonly Result[]): string[] {
  return TARGETS.flatMap(({ faster, than, ratioMin }) => {
    const own = results.find((result) => result.name === faster);
    const other = results.find((result) => result.name === than);
    if (own === undefined || other === undefined) return [];
    const each = own.rounds.map((round, index) => (other.rounds[index]?.wallS ?? Number.NaN) / round.wallS);
    const ratio = spread(each);
    const verdict = ratio.median >= ratioMin ? 'met' : '**missed**';
    return [
      `| ${faster} against ${than} | ${ratio.median.toFixed(2)} | ${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)} | ≥ ${ratioMin.toFixed(2)}, ${verdict} |`,
    ];
  });
}

/** Puts the text between the two marks of the document. */
export async function writeInto(file: string, text: string): Promise<void> {
  const document = await readFile(file, 'utf8');
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`${file} has no lines ${BEGIN} and ${END}`);
  await writeFile(file, `${document.slice(0, begin + BEGIN.length)}\n${text}\n${document.slice(end)}`);
}
