import type { Measurement } from './measure.ts';

/** What was measured in one round, by the contenders' names. */
export type Round = ReadonlyMap<string, Measurement>;

/** Something that pgark promises: a ratio of what was measured in the same round, so that a busy machine troubles both. */
export interface Target {
  readonly label: string;
  /** Undefined where not all took part. */
  readonly ratio: (round: Round) => number | undefined;
  readonly bound: { readonly atLeast: number } | { readonly atMost: number };
}

/** How many times as fast one is as another. */
export function speed(one: string, other: string, atLeast: number): Target {
  return {
    label: `speed: ${one} against ${other}`,
    ratio: (round) => quotient(round.get(other)?.wallS, round.get(one)?.wallS),
    bound: { atLeast },
  };
}

/** The CPU time of one's clients as a part of another's. */
export function clientCpu(one: string, other: string, atMost: number): Target {
  return {
    label: `client CPU: ${one} against ${other}`,
    ratio: (round) => quotient(round.get(one)?.clientCpuS, round.get(other)?.clientCpuS),
    bound: { atMost },
  };
}

export function quotient(dividend: number | undefined, divisor: number | undefined): number | undefined {
  return dividend === undefined || divisor === undefined ? undefined : dividend / divisor;
}

export function isMet(ratio: number, bound: Target['bound']): boolean {
  return 'atLeast' in bound ? ratio >= bound.atLeast : ratio <= bound.atMost;
}
