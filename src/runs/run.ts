import type { Clock } from '../common/clock.ts';
import { asPgarkError, PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { Random } from '../common/random.ts';
import { silentTracer, type Span, type SpanFacts, type Tracer } from '../common/tracer.ts';
import type { Timers } from '../repository/held-lease.ts';
import { makeRunId, type RunId } from '../repository/ids.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { LogTail } from './log-tail.ts';
import { type RunBase, RunRecordKeeper, type RunResult } from './record-keeper.ts';
import type { RunKind } from './run-record.ts';

/** What every run happens in. */
export interface RunEnvironment {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Each run is a span of it. Default: nobody is told. */
  readonly tracer?: Tracer;
  readonly signal: AbortSignal;
  readonly host: string;
  readonly pid: number;
  readonly pgarkVersion: string;
  /** Default: the system's, which do not keep the process alive. */
  readonly timers?: Timers;
}

export interface RunSpec {
  readonly kind: RunKind;
  readonly source?: string | undefined;
  readonly database?: string | undefined;
  /** Of a backup. */
  readonly format?: Manifest['format'] | undefined;
  /**
   * Whether a failure before the record was opened is recorded too, where the store holds a repository: a server that is
   * away every night is what a history is to tell of. Default: false.
   */
  readonly recordsEarlyFailure?: boolean;
}

/** A run while it goes on. */
export interface Run {
  readonly id: RunId;
  readonly logger: Logger;
  /** The run itself; its phases are parts of it. */
  readonly span: Span;
  readonly startedAt: Date;
  /** Writes the record of the running run; called once the store is known to be writable. */
  open(): Promise<void>;
}

/** A run that works on several stores. */
export interface SpreadRun extends Omit<Run, 'open'> {
  /** The run's record in a store of it. Whoever opens it also ends it; what is still open at the run's end, ends with that. */
  readonly recordIn: (store: ObjectStore) => RunRecordKeeper;
}

export type { RunResult } from './record-keeper.ts';

/**
 * The envelope of every run: an id, log events at its start and end, a span, and a record and the end of the log in the
 * store. Everything that starts work goes through it, so that a manual command leaves the same traces as a scheduled one.
 * A record that cannot be written is a warning: it never makes a run fail. Whatever `work` throws leaves as a PgarkError;
 * an abort as `interrupted`.
 */
export async function runEnveloped<T>(
  environment: RunEnvironment,
  spec: RunSpec,
  work: (run: Run) => Promise<{ readonly value: T; readonly result: RunResult }>,
): Promise<T> {
  return runSpread(environment, spec, ({ recordIn, ...run }) => {
    const record = recordIn(environment.store);
    run.span.note({ 'pgark.storage_location': environment.store.location });
    return work({ ...run, open: () => record.open() });
  });
}

/**
 * The envelope of a run that works on several stores and may end differently in each: one id, one pair of log events, and
 * a record of the same id in every store, which says how the run went there. Otherwise as `runEnveloped`; `result` is what
 * the log says of the whole.
 */
export async function runSpread<T>(
  environment: Omit<RunEnvironment, 'store'>,
  spec: RunSpec,
  work: (run: SpreadRun) => Promise<{ readonly value: T; readonly result: RunResult }>,
): Promise<T> {
  const { clock, tracer = silentTracer } = environment;
  const startedAt = clock.now();
  const id = makeRunId(startedAt, environment.random);
  const facts = {
    'pgark.run_id': id,
    'pgark.kind': spec.kind,
    'pgark.source': spec.source,
    'pgark.database': spec.database,
  };
  return tracer.span(spec.kind, facts, (span) => runWithin({ id, startedAt, span }, environment, spec, work));
}

async function runWithin<T>(
  { id, startedAt, span }: Pick<Run, 'id' | 'startedAt' | 'span'>,
  environment: Omit<RunEnvironment, 'store'>,
  spec: RunSpec,
  work: (run: SpreadRun) => Promise<{ readonly value: T; readonly result: RunResult }>,
): Promise<T> {
  const { clock, signal } = environment;
  const tail = new LogTail();
  const logger = tail.tee(environment.logger.child({ runId: id }));
  const base: RunBase = {
    layout: 1,
    id,
    kind: spec.kind,
    ...(spec.source === undefined ? {} : { source: spec.source }),
    ...(spec.database === undefined ? {} : { database: spec.database }),
    ...(spec.format === undefined ? {} : { format: spec.format }),
    host: environment.host,
    pid: environment.pid,
    startedAt: startedAt.toISOString(),
    pgarkVersion: environment.pgarkVersion,
  };
  const records: RunRecordKeeper[] = [];
  const recordIn = (store: ObjectStore): RunRecordKeeper => {
    const record = new RunRecordKeeper(store, base, {
      clock,
      logger,
      tail,
      timers: environment.timers,
      recordsEarlyFailure: spec.recordsEarlyFailure ?? false,
    });
    records.push(record);
    return record;
  };
  const started = { kind: spec.kind, source: spec.source, database: spec.database };
  logger.debug('run.started', `${spec.kind} started`, started);
  // What is for debugging does not come into the log in the store.
  tail.logger.info('run.started', `${spec.kind} started`, { ...started, host: environment.host, pid: environment.pid });
  try {
    const { value, result } = await work({ id, logger, span, startedAt, recordIn });
    await Promise.all(records.map((record) => record.succeed(result)));
    span.note({ 'pgark.state': 'succeeded', ...factsOf(result) });
    logger.debug('run.ended', `${spec.kind} succeeded`, { kind: spec.kind, ...result });
    return value;
  } catch (thrown) {
    const error = asRunError(spec.kind, thrown, signal);
    await Promise.all(records.map((record) => record.fail(error)));
    if (records.some(({ isOpened }) => isOpened)) error.runId = id;
    const state = error.code === 'interrupted' ? 'interrupted' : 'failed';
    span.note({ 'pgark.state': state });
    logger.debug('run.ended', `${spec.kind} ${state}: ${error.message}`, { kind: spec.kind, code: error.code });
    throw error;
  }
}

/** `storedBytes` as `pgark.result.stored_bytes`. */
function factsOf(result: RunResult): SpanFacts {
  const nameOf = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(result).map(([key, value]) => [`pgark.result.${nameOf(key)}`, value]));
}

/** What was thrown in a run, as it leaves: `interrupted` if the run's signal was aborted and nothing better is known. */
export function asRunError(kind: RunKind, thrown: unknown, signal: AbortSignal): PgarkError {
  if (!signal.aborted || thrown instanceof PgarkError) return asPgarkError(thrown);
  return new PgarkError('interrupted', `the ${kind} was interrupted; nothing half-done was kept`, { cause: thrown });
}
