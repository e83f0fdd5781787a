import { readFile, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { formatBytes, GIB, MIB } from '../src/common/bytes.ts';
import { replacePart } from '../test/support/generated-part.ts';
import type { Measurement } from './measure.ts';
import type { RaceResult } from './race.ts';
import { median, spread } from './statistics.ts';
import type { Suite } from './suite.ts';
import { isMet, type Target } from './targets.ts';

export interface Facts {
  readonly databaseBytes: number;
  readonly dumpBytes: number;
  readonly versions: readonly string[];
}

/** Two tables in Markdown: the figures, and the ratios with their spread over the rounds. */
export function describeResults(result: RaceResult, { targets, measured }: Suite, facts: Facts): string {
  const { databaseBytes, dumpBytes, versions } = facts;
  const bytes = measured === 'sql' ? dumpBytes : databaseBytes;
  return [
    `A database of ${formatBytes(databaseBytes)}, ${formatBytes(dumpBytes)} of SQL; ${result.rounds.length} rounds in turn, ${processors()}; ${versions.join(', ')}.`,
    '',
    '| | seconds | MB/s | client CPU | server CPU | store CPU | peak MiB | stored |',
    '|---|---|---|---|---|---|---|---|',
    ...result.contenders.map(({ name, label }) => figures(result, name, label, bytes)),
    '',
    '| | ratio | spread | target |',
    '|---|---|---|---|',
    ...targets.flatMap((target) => ratioOf(target, result)),
  ].join('\n');
}

export function processors(): string {
  const [first] = cpus();
  return `${cpus().length} × ${first?.model.trim() ?? 'unknown processor'}`;
}

function figures({ rounds, storedBytes }: RaceResult, name: string, label: string, bytes: number): string {
  const all = rounds.flatMap((round) => round.get(name) ?? []);
  const wallS = spread(all.map((each) => each.wallS));
  const perGib = (seconds: (each: Measurement) => number): string =>
    (median(all.map(seconds)) / (bytes / GIB)).toFixed(1);
  const stored = storedBytes.get(name);
  const cells = [
    `\`${label.replaceAll('|', '\\|')}\``,
    `${wallS.median.toFixed(1)} (${wallS.min.toFixed(1)}–${wallS.max.toFixed(1)})`,
    (bytes / 1e6 / wallS.median).toFixed(0),
    perGib((each) => each.clientCpuS),
    perGib((each) => each.serverCpuS),
    perGib((each) => each.storeCpuS),
    (Math.max(...all.map((each) => each.rssKib)) / 1024).toFixed(0),
    stored === undefined ? '' : `${(stored / MIB).toFixed(0)} MiB`,
  ];
  return `| ${cells.join(' | ')} |`;
}

function ratioOf({ label, ratio, bound }: Target, { rounds }: RaceResult): readonly string[] {
  const each = rounds.flatMap((round) => ratio(round) ?? []);
  if (each.length === 0) return [];
  const { median: middle, min, max } = spread(each);
  const wanted = 'atLeast' in bound ? `≥ ${bound.atLeast.toFixed(2)}` : `≤ ${bound.atMost.toFixed(2)}`;
  const verdict = isMet(middle, bound) ? 'met' : '**missed**';
  return [`| ${label} | ${middle.toFixed(2)} | ${min.toFixed(2)}–${max.toFixed(2)} | ${wanted}, ${verdict} |`];
}

/** Puts the text between the two marks of a suite in the document. */
export async function writeInto(file: string, suite: string, text: string): Promise<void> {
  await writeFile(file, replacePart(await readFile(file, 'utf8'), `bench ${suite}`, text));
}
