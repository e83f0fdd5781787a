import type { Measurement } from '../measure.ts';
import type { Kind } from './entrants.ts';

/** All that a comparison found out: what tables and charts are made of. Kept beside the page as JSON. */
export interface PeerResults {
  readonly day: string;
  readonly minutes: number;
  readonly machine: string;
  /** The programs' words about themselves. */
  readonly versions: readonly string[];
  /** Those who were to take part. */
  readonly entrants: readonly { readonly name: string; readonly label: string; readonly kind: Kind }[];
  readonly sizes: readonly Size[];
  /** Sessions or processes of whoever can be told, where nothing else is said. */
  readonly jobs: number;
  /** Of these one size, all numbers of jobs were tried. */
  readonly jobsSize: string;
  readonly missing: readonly Missing[];
  readonly runs: readonly PeerRun[];
}

export interface Size {
  /** As it was asked for, such as 1GiB. */
  readonly name: string;
  readonly sqlBytes: number;
  readonly databaseBytes: number;
  /** Rounds that were finished, and that were wanted. */
  readonly rounds: number;
  readonly wanted: number;
}

export interface Missing {
  readonly name: string;
  readonly why: string;
}

export interface PeerRun {
  readonly size: string;
  readonly round: number;
  readonly name: string;
  /** Undefined for those who cannot be told. */
  readonly jobs?: number;
  readonly backup: Measurement;
  readonly restore: Measurement;
  readonly storedBytes: number;
}

/** Runs of one contender at a size; those with the usual jobs, unless others are named. */
export function runsOf(results: PeerResults, size: string, name: string, jobs = results.jobs): readonly PeerRun[] {
  return results.runs.filter(
    (run) => run.size === size && run.name === name && (run.jobs === undefined || run.jobs === jobs),
  );
}

/** Where most rounds were run: of those the largest size. */
export function mainSize({ sizes, jobsSize }: PeerResults): Size {
  const found = sizes.find(({ name }) => name === jobsSize) ?? sizes.at(-1);
  if (found === undefined) throw new Error('there is no size at all');
  return found;
}
