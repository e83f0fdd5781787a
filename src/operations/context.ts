import { hostname } from 'node:os';
import { type Clock, systemClock } from '../common/clock.ts';
import { type Logger, silentLogger } from '../common/log.ts';
import { type Random, systemRandom } from '../common/random.ts';
import { silentTracer, type Tracer } from '../common/tracer.ts';
import { pgarkVersion } from '../version.ts';

/** What a long operation is doing, for a live line or a log. Counts never go back within a phase. */
export interface Progress {
  readonly phase:
    | 'checking'
    | 'dumping'
    | 'verifying'
    | 'loading'
    | 'unpacking'
    | 'recovering'
    | 'downloading'
    | 'copying'
    | 'analysing'
    | 'pruning';
  /** What it works on: a database's or an object's name. */
  readonly subject: string;
  readonly bytes: number;
  /** An estimate where the end is not known. */
  readonly bytesTotal?: number | undefined;
  /** Bytes that lie in the store already, where that differs from `bytes`. */
  readonly bytesStored?: number | undefined;
}

/** What every operation is given: the world it runs in. */
export interface OperationContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Each run is a span of it. */
  readonly tracer: Tracer;
  /** Aborted by SIGINT and SIGTERM; operations leave nothing half-done behind. */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
  /** Name of this machine and the process, as leases and run records show them. */
  readonly host: string;
  readonly pid: number;
  readonly pgarkVersion: string;
}

export interface ContextOptions {
  /** Default: says nothing. */
  readonly logger?: Logger;
  /** Gets a span of each run, with the run's phases in it. Default: nobody is told. */
  readonly tracer?: Tracer;
  /** Aborting it ends the operation, which leaves nothing half-done behind. Default: never aborted. */
  readonly signal?: AbortSignal;
  /** Called often; keep it quick. Default: nobody is told. */
  readonly onProgress?: (progress: Progress) => void;
  /** Default: the system's. */
  readonly clock?: Clock;
}

/** The world that operations run in. */
export function operationContext(options: ContextOptions = {}): OperationContext {
  return {
    clock: options.clock ?? systemClock,
    random: systemRandom,
    logger: options.logger ?? silentLogger,
    tracer: options.tracer ?? silentTracer,
    signal: options.signal ?? new AbortController().signal,
    onProgress: options.onProgress ?? (() => {}),
    host: hostname(),
    pid: process.pid,
    pgarkVersion,
  };
}
