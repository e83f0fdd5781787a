import { createHash } from 'node:crypto';
import { errorTable } from '../../../src/common/error-table.ts';
import { isPgarkError } from '../../../src/common/errors.ts';
import { SEED, seededFractions, shuffled } from './seeded.ts';

/** One fault in one run of an operation: what happens to the nth of all that passes. */
export interface FaultCase {
  readonly position: number;
  /** What passes there when nothing happens. */
  readonly what: string;
  readonly kind: string;
  /** How often a request that failed is sent again. */
  readonly retriesMax: number;
}

/** What is said of a run in which the fault did not happen: it proves nothing. */
export const UNREACHED = 'unreached';

/** Where cases are tried, one after the other. */
export interface Lane extends AsyncDisposable {
  /** A run without a fault, and the cases that it leaves room for. */
  cases(): Promise<readonly FaultCase[]>;
  /**
   * Runs the operation with the fault, and then asks whatever is to be asked. Rejects if the answer is not as it must be;
   * else it is what came of the operation: `done`, or the code of its error. `UNREACHED`: the run was over before.
   */
  run(fault: FaultCase): Promise<string>;
}

export interface Swept {
  readonly name: string;
  openLane(): Promise<Lane>;
}

export interface SweepOptions {
  /** How many of the cases are tried; all by default. */
  readonly sample?: number;
  /** Instead of a sample: one of so many parts of all cases. A case is in the same part each time. */
  readonly part?: Part;
  readonly lanes?: number;
}

interface Part {
  /** From 1. */
  readonly number: number;
  readonly of: number;
}

/** Of what `npm test` tries; TEST_RUNS makes it more. `npm run test:soak` tries all. */
export const SAMPLE: SweepOptions = { sample: Number(process.env['TEST_RUNS'] ?? 2), lanes: 2 };

const LANES = 8;
/** All cases, as `npm run test:soak` tries them; TEST_RUNS makes it a sample, and TEST_PART=2/8 the second eighth of them. */
export function wholeSweep(env: NodeJS.ProcessEnv = process.env): SweepOptions {
  const { TEST_RUNS: runs, TEST_PART: part } = env;
  if (part === undefined) return runs === undefined ? {} : { sample: Number(runs) };
  const [number = 0, of = 0] = /^\d+\/\d+$/.test(part) ? part.split('/').map(Number) : [];
  if (!(number >= 1 && number <= of))
    throw new Error(`TEST_PART is one of so many parts, such as 2/8, and not ${part}`);
  return { part: { number, of } };
}

/** Of a case that does not end: longer than any stall limit of its operations. */
const CASE_MS_MAX = 150_000;

/**
 * Tries cases of an operation side by side, and says how many there are, how many were tried, and how many reached: one at
 * least. `FAULT_CASE='17 reset 0'` tries that one alone (position, kind, and how often a request is tried again), or as a
 * regular expression those that it fits; with `FAULT_TOLD`, what comes of each is said.
 */
export async function sweep(swept: Swept, { sample, part, lanes: width = LANES }: SweepOptions = {}): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const first = stack.use(await swept.openLane());
  const all = await first.cases();
  if (all.length === 0) throw new Error(`${swept.name}: nothing passes that a fault could happen to`);
  const { waiting, others } = choose(all, swept.name, { sample, part });
  const chosen = waiting.length;
  if (chosen === 0) throw new Error(`${swept.name}: none of the ${all.length} cases was chosen`);
  const outcomes = new Map<string, number>();
  const failures: Error[] = [];
  const work = async (lane: Lane): Promise<void> => {
    for (let fault = waiting.shift(); fault !== undefined; fault = waiting.shift()) {
      try {
        const outcome = await inTime(lane.run(fault));
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        told(`  ${describe(fault)}: ${outcome}`);
        if (outcome === UNREACHED) waiting.push(...others.splice(0, 1));
      } catch (error) {
        failures.push(new Error(`${swept.name}: ${describe(fault)} (TEST_SEED=${SEED})`, { cause: error }));
        told(`  ${describe(fault)}: WRONG: ${String(error)}`);
      }
    }
  };
  const open = async (): Promise<Lane> => stack.use(await swept.openLane());
  const lanes = Array.from({ length: Math.min(width, chosen) - 1 }, async () => work(await open()));
  await Promise.all([work(first), ...lanes]);
  const positions = new Set(all.map(({ position }) => position)).size;
  const kinds = new Set(all.map(({ kind }) => kind)).size;
  const reached = [...outcomes].filter(([outcome]) => outcome !== UNREACHED);
  const came = reached.map(([outcome, count]) => `${count} ${outcome}`).sort();
  const tried = [...outcomes.values()].reduce((sum, count) => sum + count, failures.length);
  const reachedCount = tried - (outcomes.get(UNREACHED) ?? 0);
  process.stdout.write(
    `${swept.name}: ${positions} positions × ${kinds} kinds, ${all.length} cases; ${tried} tried (${part === undefined ? `TEST_SEED=${SEED}` : `part ${part.number} of ${part.of}`}), ${reachedCount} reached: ${came.join(', ')}\n`,
  );
  if (failures.length > 0) throw new AggregateError(failures, failures.map(wordsOf).join('\n'));
  if (reachedCount === 0)
    throw new Error(
      `${swept.name}: no fault happened, for each of the ${tried} runs was over before (TEST_SEED=${SEED})`,
    );
}

/**
 * What is to be tried: each kind has its turn before one has a second. Of a sample, as many others stand by, for those that a run
 * was over before.
 */
function choose(
  all: readonly FaultCase[],
  name: string,
  { sample = all.length, part }: { readonly sample: number | undefined; readonly part: Part | undefined },
): { readonly waiting: FaultCase[]; readonly others: FaultCase[] } {
  const named = process.env['FAULT_CASE'];
  if (named !== undefined)
    return { waiting: all.filter((fault) => new RegExp(`^(${named})$`).test(idOf(fault))), others: [] };
  if (part !== undefined)
    return { waiting: all.filter((fault) => partOf(fault, part.of) === part.number - 1), others: [] };
  const fraction = seededFractions(SEED, name);
  const byKind = [...Map.groupBy(all, ({ kind }) => kind).values()].map((cases) => shuffled(cases, fraction));
  const turns = shuffled(byKind, fraction).flatMap((cases) => cases.map((fault, turn) => ({ fault, turn })));
  const ordered = turns.sort((a, b) => a.turn - b.turn).map(({ fault }) => fault);
  return { waiting: ordered.slice(0, sample), others: ordered.slice(sample, 2 * sample) };
}

/** By chance, but the same each time. */
function partOf(fault: FaultCase, of: number): number {
  return createHash('sha256').update(idOf(fault)).digest().readUInt32BE() % of;
}

function idOf({ position, kind, retriesMax }: FaultCase): string {
  return `${position} ${kind} ${retriesMax}`;
}

function describe(fault: FaultCase): string {
  return `FAULT_CASE='${idOf(fault)}', ${fault.what}`;
}

function told(line: string): void {
  if (process.env['FAULT_TOLD'] !== undefined) process.stdout.write(`${line}\n`);
}

function wordsOf(error: Error): string {
  const { cause } = error;
  return `${error.message}\n${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}`;
}

async function inTime<T>(work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`it did not end within ${CASE_MS_MAX / 1_000} s`)), CASE_MS_MAX);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** What came of an operation: it succeeded, or failed with an error that the documentation knows, and that says something. */
export async function outcomeOf<T>(work: Promise<T>): Promise<{ readonly said: string; readonly value?: T }> {
  try {
    return { said: 'done', value: await work };
  } catch (error) {
    if (!isPgarkError(error) || error.code === 'internal' || !(error.code in errorTable)) throw error;
    const words = `${error.message} ${error.hint}`;
    if (error.message === '' || error.hint === '' || /undefined|\[object|invariant/.test(words))
      throw new Error(`the error says nothing: ${words}`, { cause: error });
    return { said: error.code };
  }
}
