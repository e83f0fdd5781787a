import type { Clock } from '../common/clock.ts';
import { isPgarkError, messageOf, PgarkError } from '../common/errors.ts';
import { allOf } from '../common/in-parallel.ts';
import type { Logger } from '../common/log.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import type { LeaseRecord } from './lease-record.ts';
import { readLease, type LeaseMode } from './read-lease.ts';
import { type StateObject, writeState } from './state-object.ts';

/** Renewals are due at this part of the term. */
const RENEW_AT = 1 / 3;
/** The part of the term that must be left after `confirm`, for the commit that follows. */
const SAFE_PART = 1 / 2;
/** The clocks are looked at this often, so that a process that was stopped finds out soon after it goes on. */
const TICK_MS_MAX = 1_000;
const TICKS_PER_TERM_MIN = 12;

/** Calls back once after the time given; the function returned takes it back. */
export interface Timers {
  after(ms: number, callback: () => void): () => void;
}

/** Timers that do not keep the process alive. */
export const systemTimers: Timers = {
  after(ms, callback) {
    const timer = setTimeout(callback, ms).unref();
    return () => clearTimeout(timer);
  },
};

/** The right to work on something alone, for a term that is renewed in the background until it is released. */
export interface Lease {
  readonly name: string;
  readonly token: string;
  readonly mode: LeaseMode;
  /** Aborted, with a `lease-lost` error as the reason, once the lease is another's or has not been renewed in time. */
  readonly lost: AbortSignal;
  /**
   * To be awaited right before each commit: looks into the store, renews, and makes sure that a good part of the term is
   * left for the commit. Rejects with `lease-lost`, or with the store's error if it cannot be asked.
   */
  confirm(): Promise<void>;
  /** Gives it back for others to take at once. Never rejects: what cannot be given back ends with its term. Idempotent. */
  release(): Promise<void>;
}

export interface HeldLeaseContext {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly termMs: number;
}

/** When a term ends, by both clocks: the monotonic one may stand still while a machine is suspended, the other may be set. */
export interface TermEnd {
  readonly monotonicMs: number;
  readonly wallMs: number;
}

/** To be taken before the store is asked for its time, so that it comes before the end that others see. */
export function termFromNow(clock: Clock, termMs: number): TermEnd {
  return { monotonicMs: clock.monotonicMs() + termMs, wallMs: clock.now().getTime() + termMs };
}

interface Held {
  readonly key: ObjectKey;
  readonly mode: LeaseMode;
  readonly record: LeaseRecord;
  readonly etag: string;
  readonly end: TermEnd;
}

export class HeldLease implements Lease {
  readonly name: string;
  readonly token: string;
  readonly mode: LeaseMode;
  readonly lost: AbortSignal;
  readonly #context: HeldLeaseContext;
  readonly #key: ObjectKey;
  readonly #lost = new AbortController();
  /** Aborted when the lease is lost or released: ends the store calls of renewals. */
  readonly #ended = new AbortController();
  #record: LeaseRecord;
  #etag: string;
  #end: TermEnd;
  #renewAtMs: number;
  #renewing = false;
  #cancelTick: () => void = () => {};
  #queue: Promise<unknown> = Promise.resolve();

  constructor(context: HeldLeaseContext, held: Held) {
    this.#context = context;
    this.#key = held.key;
    this.#record = held.record;
    this.#etag = held.etag;
    this.#end = held.end;
    this.#renewAtMs = this.#renewalTime(held.end);
    this.name = held.record.name;
    this.token = held.record.token;
    this.mode = held.mode;
    this.lost = this.#lost.signal;
    this.#tick();
  }

  async confirm(): Promise<void> {
    await this.#exclusively(async () => {
      try {
        await this.#renew({ looks: true });
      } catch (error) {
        this.#ended.signal.throwIfAborted();
        if (isPgarkError(error, 'store-condition-failed')) throw this.#lose('it was changed by another run');
        throw error;
      }
      if (this.#leftMs() < this.#context.termMs * SAFE_PART) {
        throw this.#lose('the storage answered too slowly for what is left of the term');
      }
    });
  }

  async release(): Promise<void> {
    if (this.#ended.signal.aborted) {
      await this.#queue;
      return;
    }
    this.#stop(new PgarkError('internal', `the lease ${this.name} has been released`));
    await this.#exclusively(async () => {
      const { logger } = this.#context;
      try {
        if (await this.#releaseLatest()) return;
        // Read again: the answer to a renewal may have been cut off just now.
        const seen = await this.#read();
        if (seen?.value.token !== this.token) return;
        const released = { ...seen.value, released: true, renewals: seen.value.renewals + 1 };
        await this.#replace(released, seen.etag);
      } catch (error) {
        logger.warning(
          'lease.release-failed',
          `the lease ${this.name} could not be given back; it ends with its term`,
          {
            lease: this.name,
            until: this.#record.until,
            error: messageOf(error),
          },
        );
      }
    });
  }

  /** Gives back what was written last, if it is still the latest; whether that can be told before another look, and is so. */
  async #releaseLatest(): Promise<boolean> {
    if (this.mode === 'advisory') return false;
    try {
      await this.#replace({ ...this.#record, released: true, renewals: this.#record.renewals + 1 }, this.#etag);
      return true;
    } catch (error) {
      if (isPgarkError(error, 'store-condition-failed')) return false;
      throw error;
    }
  }

  #read(call: CallOptions = {}): Promise<StateObject<LeaseRecord> | undefined> {
    const { store, clock } = this.#context;
    return readLease(store, this.#key, { mode: this.mode, clock }, call);
  }

  /** Rejects unless the store's record is this lease. */
  async #look(): Promise<void> {
    this.#throwIfOver();
    const seen = await this.#read({ signal: this.#ended.signal });
    if (seen?.value.token !== this.token) throw this.#lose(describeOwner(seen?.value));
    this.#etag = seen.etag;
  }

  /** `looks`: only if the store's record is still this lease; else its condition alone tells. */
  async #renew({ looks }: { readonly looks: boolean }): Promise<void> {
    this.#throwIfOver();
    const { store, clock, termMs } = this.#context;
    const signal = this.#ended.signal;
    const end = termFromNow(clock, termMs);
    const [now] = await allOf([store.now({ signal }), looks && this.mode === 'conditional' ? this.#look() : undefined]);
    const record = {
      ...this.#record,
      until: new Date(now.getTime() + termMs).toISOString(),
      renewals: this.#record.renewals + 1,
    };
    if (this.mode === 'advisory') await this.#look();
    const etag = await this.#replace(record, this.#etag, signal);
    // If the term passed meanwhile, another may have been here before and be done already.
    this.#throwIfOver();
    this.#record = record;
    this.#etag = etag;
    this.#end = end;
    this.#renewAtMs = this.#renewalTime(end);
  }

  async #replace(record: LeaseRecord, etag: string, signal?: AbortSignal): Promise<string> {
    return writeState(this.#context.store, this.#key, record, {
      ...(this.mode === 'conditional' ? { condition: { ifMatch: etag } } : {}),
      ...(signal ? { signal } : {}),
    });
  }

  readonly #tick = (): void => {
    if (this.#ended.signal.aborted) return;
    if (this.#leftMs() <= 0) {
      this.#lose('it was not renewed in time');
      return;
    }
    const { clock, timers, termMs } = this.#context;
    if (!this.#renewing && clock.monotonicMs() >= this.#renewAtMs) void this.#renewInBackground();
    this.#cancelTick = timers.after(Math.min(TICK_MS_MAX, termMs / TICKS_PER_TERM_MIN), this.#tick);
  };

  /** Never rejects: what fails is tried again until the term is over. */
  async #renewInBackground(): Promise<void> {
    const { clock, logger, termMs } = this.#context;
    this.#renewing = true;
    try {
      await this.#exclusively(async () => {
        // A confirm() may have come first.
        if (clock.monotonicMs() < this.#renewAtMs) return;
        try {
          await this.#renew({ looks: false });
        } catch (error) {
          if (!isPgarkError(error, 'store-condition-failed')) throw error;
          // Another's record loses it; ours under another etag is renewed in the next try.
          await this.#look();
        }
      });
    } catch (error) {
      if (this.#ended.signal.aborted) return;
      this.#renewAtMs = clock.monotonicMs() + termMs / TICKS_PER_TERM_MIN;
      logger.warning('lease.renewal-failed', `the lease ${this.name} could not be renewed yet: ${messageOf(error)}`, {
        lease: this.name,
        leftMs: Math.round(this.#leftMs()),
        error: messageOf(error),
      });
    } finally {
      this.#renewing = false;
    }
  }

  async #exclusively(action: () => Promise<void>): Promise<void> {
    const run = this.#queue.then(action);
    this.#queue = run.catch(() => {});
    await run;
  }

  #renewalTime(end: TermEnd): number {
    return end.monotonicMs - this.#context.termMs * (1 - RENEW_AT);
  }

  #leftMs(): number {
    const { clock } = this.#context;
    return Math.min(this.#end.monotonicMs - clock.monotonicMs(), this.#end.wallMs - clock.now().getTime());
  }

  #throwIfOver(): void {
    this.#ended.signal.throwIfAborted();
    if (this.#leftMs() <= 0) throw this.#lose('it was not renewed in time');
  }

  #lose(why: string): PgarkError {
    // Lost already, or released: that stays the reason.
    if (this.#ended.signal.aborted) return this.#ended.signal.reason as PgarkError;
    const error = new PgarkError('lease-lost', `the lease ${this.name} is lost: ${why}`, {
      details: { lease: this.name, runId: this.#record.holder.runId },
    });
    this.#context.logger.error('lease.lost', error.message, { lease: this.name, until: this.#record.until });
    this.#lost.abort(error);
    this.#stop(error);
    return error;
  }

  #stop(reason: PgarkError): void {
    this.#cancelTick();
    this.#ended.abort(reason);
  }
}

function describeOwner(record: LeaseRecord | undefined): string {
  if (record === undefined) return 'somebody removed it from the storage';
  const { host, pid, command } = record.holder;
  return `${host} (pid ${pid}) has taken it for \`${command}\` since ${record.since}`;
}
