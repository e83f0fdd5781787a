import type { Clock } from '../common/clock.ts';
import { assert, isPgarkError, PgarkError } from '../common/errors.ts';
import { allOf } from '../common/in-parallel.ts';
import type { Logger } from '../common/log.ts';
import type { Random } from '../common/random.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { HeldLease, systemTimers, termFromNow, type Lease, type Timers } from './held-lease.ts';
import { keys } from './keys.ts';
import {
  isAlive,
  leaseRecordSchema,
  lockedError,
  untilFreeMs,
  type LeaseHolder,
  type LeaseRecord,
} from './lease-record.ts';
import { LAYOUT } from './manifest.ts';
import { ADVISORY_SETTLE_MS, readLease, type LeaseMode } from './read-lease.ts';
import { readState, writeState, type StateObject } from './state-object.ts';

/** Shorter terms than this would be lost to an ordinary hiccup of the network. */
const TERM_MS_MIN = 1_000;
/** Others that come first, one after the other, before it is given up. */
const LOST_RACES_MAX = 20;

export interface LeasesOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** How long a lease lives without being renewed; after that, others may take it. At least a second. */
  readonly termMs: number;
  readonly holder: LeaseHolder;
  /** Default: the system's, which do not keep the process alive. */
  readonly timers?: Timers;
}

export interface AcquireOptions extends CallOptions {
  /** Wait until the present holder is done, for as long as the signal allows. Default: false. */
  readonly wait?: boolean;
}

/** What anybody can see of a lease. Times are the store's. */
export interface LeaseView {
  readonly token: string;
  readonly holder: LeaseHolder;
  readonly since: Date;
  readonly until: Date;
  /** Neither released nor expired. */
  readonly alive: boolean;
}

/**
 * Leases are objects `.pgark/leases/NAME.json`, created and replaced by conditional writes, expiring by the store's own
 * clock, so that hosts need not agree on the time. A lease is never deleted: it is released or expires in place, and its
 * successor replaces exactly what it saw. Hence nobody who was paused can remove the lease of another.
 */
export class Leases {
  readonly #store: ObjectStore;
  readonly #options: LeasesOptions;

  constructor(store: ObjectStore, options: LeasesOptions) {
    assert(options.termMs >= TERM_MS_MIN, `a lease's term is at least ${TERM_MS_MIN} ms`);
    this.#store = store;
    this.#options = options;
  }

  /** The same holder's, but taken for another purpose: who meets such a lease is told so. */
  as(command: string): Leases {
    return new Leases(this.#store, { ...this.#options, holder: { ...this.#options.holder, command } });
  }

  /** Rejects with `locked`, naming the holder, if another run holds it (and `wait` is not set). */
  async acquire(name: string, options: AcquireOptions = {}): Promise<Lease> {
    const { clock, logger, termMs } = this.#options;
    const call: CallOptions = options.signal ? { signal: options.signal } : {};
    const { conditionalWrites } = await this.#store.probe({ ...call, asKnown: true });
    const mode: LeaseMode = conditionalWrites ? 'conditional' : 'advisory';
    let lostRaces = 0;
    let toldWaiting = false;
    for (;;) {
      options.signal?.throwIfAborted();
      const end = termFromNow(clock, termMs);
      const [now, seen] = await allOf([
        this.#store.now(call),
        readLease(this.#store, keys.lease(name), { mode, clock }, call),
      ]);
      if (seen && isAlive(seen.value, now)) {
        const locked = lockedError(seen.value);
        if (options.wait !== true) throw locked;
        if (!toldWaiting) logger.info('lease.waiting', `waiting: ${locked.message}`, { ...locked.details });
        toldWaiting = true;
        await clock.sleep(Math.min(termMs / 3, untilFreeMs(seen.value, now)), options.signal);
        continue;
      }
      const record = this.#newRecord(name, now);
      const etag = await this.#take(record, seen, mode, call);
      if (etag === undefined) {
        lostRaces += 1;
        if (lostRaces < LOST_RACES_MAX) continue;
        throw new PgarkError('locked', `${name} went to another run each of ${lostRaces} times that it was free`);
      }
      if (seen && !seen.value.released) {
        const { holder, until } = seen.value;
        const message = `took over the lease ${name}, which ${holder.host} (pid ${holder.pid}) let expire at ${until}`;
        logger.warning('lease.taken-over', message, { lease: name, host: holder.host, pid: holder.pid, until });
      }
      const context = { store: this.#store, clock, timers: this.#options.timers ?? systemTimers, logger, termMs };
      return new HeldLease(context, { key: keys.lease(name), mode, record, etag, end });
    }
  }

  /** Who holds or last held it; undefined if nobody ever did. */
  async peek(name: string, options: CallOptions = {}): Promise<LeaseView | undefined> {
    const seen = await readState(this.#store, keys.lease(name), leaseRecordSchema, options);
    if (seen === undefined) return undefined;
    const { token, holder, since, until } = seen.value;
    const alive = isAlive(seen.value, await this.#store.now(options));
    return { token, holder, since: new Date(since), until: new Date(until), alive };
  }

  #newRecord(name: string, now: Date): LeaseRecord {
    const { random, termMs, holder } = this.#options;
    return {
      layout: LAYOUT,
      name,
      token: Buffer.from(random.bytes(16)).toString('hex'),
      holder,
      since: now.toISOString(),
      until: new Date(now.getTime() + termMs).toISOString(),
      renewals: 0,
      released: false,
    };
  }

  /** The new record's etag; undefined if another was faster. */
  async #take(
    record: LeaseRecord,
    seen: StateObject<LeaseRecord> | undefined,
    mode: LeaseMode,
    call: CallOptions,
  ): Promise<string | undefined> {
    const key = keys.lease(record.name);
    if (mode === 'advisory') {
      await writeState(this.#store, key, record, call);
      const { clock } = this.#options;
      await clock.sleep(ADVISORY_SETTLE_MS, call.signal);
      const settled = await readLease(this.#store, key, { mode, clock }, call);
      return settled?.value.token === record.token ? settled.etag : undefined;
    }
    try {
      const condition = seen === undefined ? ({ ifAbsent: true } as const) : { ifMatch: seen.etag };
      return await writeState(this.#store, key, record, { ...call, condition });
    } catch (error) {
      if (isPgarkError(error, 'store-condition-failed')) return undefined;
      throw error;
    }
  }
}
