import type { Contender } from './contender.ts';
import { measure } from './measure.ts';
import type { Place } from './place.ts';
import { storedBytes } from './stores.ts';
import type { Suite } from './suite.ts';
import type { Round } from './targets.ts';

export interface RaceOptions {
  readonly rounds: number;
  /** Names of contenders. Default: all. */
  readonly only: readonly string[] | undefined;
}

export interface RaceResult {
  readonly contenders: readonly Contender[];
  readonly rounds: readonly Round[];
  /** Of those that store something, by their names. */
  readonly storedBytes: ReadonlyMap<string, number>;
}

/** Lets all contenders of a suite run in turn, round by round, and tells of each on stderr. */
export async function race(place: Place, suite: Suite, { rounds, only }: RaceOptions): Promise<RaceResult> {
  const contendersOf = (round: number) =>
    suite.contenders(place, String(round)).filter(({ name }) => only?.includes(name) ?? true);
  const contenders = contendersOf(0);
  if (contenders.length === 0) {
    const names = suite.contenders(place, '').map(({ name }) => name);
    throw new Error(`--only names none of ${names.join(', ')}`);
  }
  const stored = new Map<string, number>();
  const results: Round[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    const result: Map<string, Awaited<ReturnType<typeof measure>>> = new Map();
    for (const contender of contendersOf(round)) {
      const { name, label, into, tidy } = contender;
      const measured = await measure(place, contender);
      result.set(name, measured);
      if (into !== undefined) stored.set(name, await storedBytes(into.sink.endpoint, into.bucket));
      await tidy?.();
      const { wallS, clientCpuS, serverCpuS, storeCpuS, rssKib } = measured;
      const cpu = `CPU ${clientCpuS.toFixed(2)} + server ${serverCpuS.toFixed(2)} + store ${storeCpuS.toFixed(2)} s`;
      console.error(`round ${round}: ${label}: ${wallS.toFixed(2)} s, ${cpu}, peak ${(rssKib / 1024).toFixed(0)} MiB`);
    }
    results.push(result);
  }
  return { contenders, rounds: results, storedBytes: stored };
}
