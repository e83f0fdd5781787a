import { readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { onTestFinished } from 'vitest';

/** What a soak test has seen of some versions, told as `18.6`. */
export type Fact = PairFact | JourneyFact | ArchiveFact;

interface Seen {
  readonly server: string;
  readonly client: string;
  /** `yes`, or what the test expects instead; `no` where it failed. */
  readonly outcome: 'yes' | 'warned' | 'refused' | 'no';
}

/** A database of a server is backed up and restored there by a client. */
export interface PairFact extends Seen {
  readonly kind: 'pair';
}

/** A backup of a server by a client is restored into a server of another version. */
export interface JourneyFact extends Seen {
  readonly kind: 'journey';
  readonly target: string;
}

/** A backup of format directory of one of the databases is restored by every way. */
export interface ArchiveFact extends Seen {
  readonly kind: 'archive';
  readonly database: string;
}

/** Each file of tests has one of its own, so that none waits for another. */
export type FactFile = 'versions' | 'archives';

function pathOf(file: FactFile): string {
  return path.join(import.meta.dirname, `${file}.json`);
}

/** In the order of versions. */
export async function readFacts(file: FactFile): Promise<readonly Fact[]> {
  return JSON.parse(await readFile(pathOf(file), 'utf8')) as Fact[];
}

/** Of what programs say of themselves, such as `18.6 (Debian 18.6-3)`, the version alone. */
function plainVersion(text: string): string {
  return text.split(' ')[0] ?? text;
}

/** When the running test has ended: what it has seen takes the place of what was known of the same major versions. */
export function recordWhenFinished(file: FactFile, expected: Fact): void {
  onTestFinished(async ({ task }) => {
    const seen = { ...expected, client: plainVersion(expected.client) };
    const fact: Fact = task.result?.state === 'pass' ? seen : { ...seen, outcome: 'no' };
    const merged = mergeFact(await readFacts(file), fact);
    // As the formatter would have it.
    const lines = merged.map((each) => `  ${JSON.stringify(each, null, 1).replaceAll(/\n\s*/g, ' ')}`);
    const temporary = `${pathOf(file)}.new`;
    await writeFile(temporary, `[\n${lines.join(',\n')}\n]\n`);
    await rename(temporary, pathOf(file));
  });
}

export function mergeFact(known: readonly Fact[], fact: Fact): readonly Fact[] {
  const others = known.filter((each) => keyOf(each).join() !== keyOf(fact).join());
  return [...others, fact].sort((a, b) => compareKeys(keyOf(a), keyOf(b)));
}

export function majorOf(version: string): number {
  return Number.parseInt(version, 10);
}

type Key = readonly (string | number)[];

function keyOf(fact: Fact): Key {
  const pair = [fact.kind, majorOf(fact.server), majorOf(fact.client)];
  if (fact.kind === 'journey') return [...pair, majorOf(fact.target)];
  return fact.kind === 'archive' ? [...pair, fact.database] : pair;
}

function compareKeys(a: Key, b: Key): number {
  const index = a.findIndex((part, place) => part !== b[place]);
  const [one = '', other = ''] = [a[index], b[index]];
  if (typeof one === 'number' && typeof other === 'number') return one - other;
  return `${one}` < `${other}` ? -1 : `${one}` > `${other}` ? 1 : 0;
}
