import type { Clock } from '../common/clock.ts';
import { isPgarkError, messageOf, type PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { systemTimers, type Timers } from '../repository/held-lease.ts';
import { keys } from '../repository/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { LogTail } from './log-tail.ts';
import { PublishedLog } from './published-log.ts';
import { describeFailure, type RunRecord, serialiseRunRecord } from './run-record.ts';

/** What is known of a run from its start to its end. */
export type RunBase = Omit<RunRecord, 'state' | 'endedAt' | 'result' | 'error' | 'destinations'>;

/** What a run leaves in its record beside its state. */
export type RunResult = NonNullable<RunRecord['result']>;

export interface RecordKeeperContext {
  readonly clock: Clock;
  readonly logger: Logger;
  /** See `RunSpec`. Default: false. */
  readonly recordsEarlyFailure?: boolean;
  /** What the run says. Default: nothing. */
  readonly tail?: LogTail;
  /** Default: the system's, which do not keep the process alive. */
  readonly timers?: Timers | undefined;
}

/** How long a store is waited for that is asked whether a failure can be recorded there. */
const REPOSITORY_PATIENCE_MS = 10_000;

/**
 * The record of a run in one store: written when the run opens it, and once more with its end; the end of its log beside
 * it. A record that was never opened is not written, but for an early failure where that is wanted; one that cannot be
 * written is a warning, for it never makes a run fail.
 */
export class RunRecordKeeper {
  readonly #store: ObjectStore;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #log: PublishedLog;
  readonly #timers: Timers;
  readonly #recordsEarlyFailure: boolean;
  #base: Omit<RunRecord, 'state'>;
  #state: 'unopened' | 'open' | 'ended' = 'unopened';

  constructor(store: ObjectStore, base: RunBase, context: RecordKeeperContext) {
    this.#store = store;
    this.#base = base;
    this.#clock = context.clock;
    this.#logger = context.logger;
    const { tail = new LogTail(), timers = systemTimers } = context;
    this.#timers = timers;
    this.#recordsEarlyFailure = context.recordsEarlyFailure ?? false;
    this.#log = new PublishedLog(tail, { store, key: keys.runLog(new Date(base.startedAt), base.id), timers });
  }

  /** Whether there is a record, or should be. */
  get isOpened(): boolean {
    return this.#state !== 'unopened';
  }

  /** Of a run that writes into several stores, the names of all of them go with it. */
  async open(destinations?: readonly string[]): Promise<void> {
    this.#state = 'open';
    if (destinations !== undefined) this.#base = { ...this.#base, destinations: [...destinations] };
    this.#log.start();
    await this.#write({ ...this.#base, state: 'running' });
  }

  async succeed(result: RunResult): Promise<void> {
    await this.#end({ ...this.#base, state: 'succeeded', endedAt: this.#now(), result });
  }

  async fail(error: PgarkError): Promise<void> {
    const state = error.code === 'interrupted' ? 'interrupted' : 'failed';
    if ((await this.#isEarlyFailureWanted(error)) && !this.isOpened) this.#state = 'open';
    if (this.isOpened) error.runId = this.#base.id;
    await this.#end({ ...this.#base, state, endedAt: this.#now(), error: describeFailure(error) });
  }

  /**
   * Only where there is a repository already: whoever tries pgark for the first time, and has a wrong password, finds
   * nothing in the bucket. A store that is itself what is wrong is not asked.
   */
  async #isEarlyFailureWanted({ code }: PgarkError): Promise<boolean> {
    if (this.isOpened || !this.#recordsEarlyFailure || code === 'interrupted' || code.startsWith('store-'))
      return false;
    const patience = new AbortController();
    const cancel = this.#timers.after(REPOSITORY_PATIENCE_MS, () => patience.abort());
    try {
      return (await this.#store.head(keys.repository, { signal: patience.signal })) !== undefined;
    } catch {
      return false;
    } finally {
      cancel();
    }
  }

  /** The first end stands. Record and log are written side by side: a store that does not answer is waited for once. */
  async #end(record: RunRecord): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    await Promise.all([
      this.#write(record),
      this.#attempt(record, 'log', () => this.#log.finish((logger) => sayEnd(record, logger))),
    ]);
  }

  #now(): string {
    return this.#clock.now().toISOString();
  }

  async #write(record: RunRecord): Promise<void> {
    await this.#attempt(record, 'record', () =>
      this.#store.putSmall(keys.run(new Date(record.startedAt), record.id), serialiseRunRecord(record), {
        contentType: 'application/json',
      }),
    );
  }

  async #attempt({ kind }: RunRecord, what: 'record' | 'log', write: () => Promise<unknown>): Promise<void> {
    try {
      // Those of an interrupted run are written although the run's signal is aborted.
      await write();
    } catch (error) {
      // Who may only read, to restore or to verify, leaves no record; that is as it was set up.
      const readOnly = kind !== 'backup' && kind !== 'globals' && isPgarkError(error, 'store-access-denied');
      if (!readOnly)
        this.#logger.warning('run.record_failed', `the ${what} of this run could not be written: ${messageOf(error)}`);
    }
  }
}

/** The last line of a log: how the run ended in this store. */
function sayEnd({ kind, state, result, error }: RunRecord, logger: Logger): void {
  if (error === undefined) logger.success('run.ended', `${kind} succeeded`, result);
  else logger.error('run.ended', `${kind} ${state}: ${error.message}`, { state, code: error.code, hint: error.hint });
}
