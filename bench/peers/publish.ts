import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writeInto } from '../report.ts';
import { chartsOf } from './charts.ts';
import { describePeers } from './peer-report.ts';
import type { PeerResults } from './results.ts';

const docs = path.resolve(import.meta.dirname, '../../docs');
/** Beside the page: what was measured, and the charts of it. */
const folder = path.join(docs, 'benchmark');
const resultsFile = path.join(folder, 'peers.json');

export async function readResults(): Promise<PeerResults> {
  const text = await readFile(resultsFile, 'utf8').catch((error: unknown) => {
    throw new Error(`there is nothing to render: run "npm run bench" first`, { cause: error });
  });
  return JSON.parse(text) as PeerResults;
}

/** Writes figures, charts, and the tables between the marks of the page. */
export async function writeResults(measured: PeerResults): Promise<void> {
  await mkdir(folder, { recursive: true });
  const text = JSON.stringify(measured, rounded, 1);
  await writeFile(resultsFile, `${text}\n`);
  // Of the very figures that are kept.
  const results = JSON.parse(text) as PeerResults;
  const charts = chartsOf(results);
  for (const { file, svg } of charts) await writeFile(path.join(folder, file), svg);
  const images = charts.map(({ title, file }) => `![${title}](benchmark/${file})`);
  await writeInto(path.join(docs, 'performance.md'), 'peers', [describePeers(results), ...images].join('\n\n'));
}

/** A hundredth of a second is less than one run differs from another. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Math.round(value * 1000) / 1000 : value;
}
