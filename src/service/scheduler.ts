import type { Clock } from '../common/clock.ts';
import { messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { DueTimes } from '../observability/expectations.ts';
import type { LastStart } from './claims.ts';
import { type Due, dueNow, firstDue, nextDue, type Timetable } from './due-times.ts';

/** No timer is trusted for longer: a machine may be suspended, and its clock be set. */
const LOOK_MS_MAX = 60_000;
/** A run that begins this much later than it should is told of as late. */
const LATE_MS_MIN = 60_000;
/** The wall clock may go back by this much against the steady one before its due times are worked out anew. */
const SET_BACK_MS_MIN = 60_000;

export interface ScheduledJob extends Timetable {
  /** Undefined: it never was; `unknown` as long as nobody could be asked, see `tell`. */
  readonly last: LastStart | 'unknown' | undefined;
}

/** A due time that has come. */
export interface Fired {
  readonly id: string;
  readonly dueAt: Date;
  /** When the next one will come; nothing of this one should go on until then. */
  readonly nextFireAt: Date | undefined;
  /** It was begun before, by a process that seems to be gone. */
  readonly resumes: boolean;
}

/** What a run teaches the scheduler. */
export interface RunNews {
  /** Another host has done this due time under this name: an interval goes on from here. */
  readonly last?: Date;
}

export interface SchedulerOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly timezone: string;
  readonly jobs: readonly ScheduledJob[];
  /** After so long a run that died is known to be dead, and is made up for. */
  readonly resumeAfterMs: number;
  /** Carries out what is due. It should not reject; what it rejects with is logged. */
  readonly run: (fired: Fired) => Promise<RunNews>;
}

interface Entry {
  timetable: Timetable;
  /** Undefined for a schedule that never fires again. */
  due: Due | undefined;
  /** Nobody could say yet what came of it before, and nothing has come of it since. */
  isUnknown: boolean;
  runningSince: Date | undefined;
  /** Due times that came while it ran. */
  skipped: number;
}

/**
 * Runs jobs when they are due. A job never overlaps itself; a due time that comes while it runs is skipped. What was
 * missed (the machine was off, or slept) runs once, late.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #stop = new AbortController();
  /** Runs that go on, of this schedule and of those before it. */
  readonly #runs = new Map<Promise<void>, string>();
  #timezone: string;
  #dueTimes: DueTimes;
  #loop: Promise<void> | undefined;
  #wake = new AbortController();
  #seen: { readonly wallMs: number; readonly steadyMs: number };

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#timezone = options.timezone;
    this.#dueTimes = new DueTimes(options.timezone);
    this.#seen = this.#clocks();
    this.#put(options.jobs, false);
  }

  start(): void {
    this.#loop ??= this.#watch();
  }

  /** Takes other jobs in place of the present ones. Those that run go on, and a job of the same id waits for its end. */
  replace(jobs: readonly ScheduledJob[], timezone: string): void {
    const isMoved = timezone !== this.#timezone;
    this.#timezone = timezone;
    this.#dueTimes = new DueTimes(timezone);
    this.#put(jobs, isMoved);
    this.#wake.abort();
  }

  /** Jobs that wait for their next time although they may have missed one, by their ids. */
  get unknown(): ReadonlySet<string> {
    return new Set([...this.#entries].flatMap(([id, { isUnknown }]) => (isUnknown ? [id] : [])));
  }

  /** What was not known of jobs when they were taken. Those that have begun meanwhile are past it. */
  tell(jobs: readonly ScheduledJob[]): void {
    const now = this.#options.clock.now();
    for (const { id, last } of jobs) {
      const entry = this.#entries.get(id);
      if (entry !== undefined) this.#inform(entry, last, now);
    }
    this.#wake.abort();
  }

  /** When each job begins next. */
  nextRuns(): ReadonlyMap<string, Date> {
    return new Map(
      [...this.#entries].flatMap(([id, { due }]) => (due === undefined ? [] : [[id, due.fireAt] as const])),
    );
  }

  /** Ids of what runs. */
  get running(): readonly string[] {
    return [...this.#runs.values()];
  }

  /** Begins nothing more; resolves when what runs has ended. Idempotent. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await Promise.all(this.#runs.keys());
  }

  #put(jobs: readonly ScheduledJob[], isMoved: boolean): void {
    const before = new Map(this.#entries);
    const now = this.#options.clock.now();
    this.#entries.clear();
    for (const { id, schedule, jitterMs, last } of jobs) {
      const timetable = { id, schedule, jitterMs };
      const entry = before.get(id);
      const start = last === 'unknown' ? undefined : last;
      if (entry === undefined) {
        const due = this.#first(timetable, start, now);
        this.#entries.set(id, { timetable, due, isUnknown: last === 'unknown', runningSince: undefined, skipped: 0 });
        continue;
      }
      this.#entries.set(id, entry);
      if (!isMoved && JSON.stringify(entry.timetable) === JSON.stringify(timetable)) this.#inform(entry, last, now);
      else this.#change(entry, timetable, last, now);
    }
  }

  /** A job whose past was not known gets the time that it would have had, as long as it has not begun without. */
  #inform(entry: Entry, last: ScheduledJob['last'], now: Date): void {
    if (!entry.isUnknown || last === 'unknown') return;
    entry.isUnknown = false;
    if (last !== undefined) entry.due = this.#first(entry.timetable, last, now);
  }

  /**
   * What a job that is new here waits for. What was begun and never ended is done anew, unless the job's next time comes
   * before it is certain that nobody is at it any more.
   */
  #first(timetable: Timetable, last: LastStart | undefined, now: Date): Due | undefined {
    const regular = firstDue(timetable, last?.at, now, this.#dueTimes);
    if (last?.isOpen !== true || last.at > now) return regular;
    const fireAt = new Date(now.getTime() + this.#options.resumeAfterMs);
    return regular !== undefined && regular.fireAt <= fireAt ? regular : { dueAt: last.at, fireAt, resumes: true };
  }

  /** Other times for a job that goes on: in the same object, so that its end is noticed if it runs. */
  #change(entry: Entry, timetable: Timetable, last: ScheduledJob['last'], now: Date): void {
    const { runningSince } = entry;
    entry.timetable = timetable;
    entry.isUnknown = last === 'unknown' && runningSince === undefined;
    // What is running now is not due once more for want of a word from the storage.
    if (runningSince !== undefined) entry.due = nextDue(timetable, runningSince, now, this.#dueTimes);
    else entry.due = firstDue(timetable, last === 'unknown' ? undefined : last?.at, now, this.#dueTimes);
  }

  async #watch(): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      if (this.#stop.signal.aborted) return;
      this.#noticeSetBack();
      const now = clock.now();
      for (const entry of this.#entries.values()) if (entry.due && entry.due.fireAt <= now) this.#fire(entry, now);
      await this.#sleep();
    }
  }

  async #sleep(): Promise<void> {
    const { clock } = this.#options;
    const nowMs = clock.now().getTime();
    const firstMs = Math.min(
      ...[...this.#entries.values()].map(({ due }) => due?.fireAt.getTime() ?? Number.POSITIVE_INFINITY),
    );
    this.#wake = new AbortController();
    const signal = AbortSignal.any([this.#stop.signal, this.#wake.signal]);
    await clock.sleep(Math.max(0, Math.min(LOOK_MS_MAX, firstMs - nowMs)), signal).catch(() => undefined);
  }

  #fire(entry: Entry, now: Date): void {
    const { logger, run } = this.#options;
    const { timetable, due } = entry;
    if (due === undefined) return;
    const { id } = timetable;
    const dueAt = due.resumes === true ? due.dueAt : dueNow(timetable, due, now);
    const fields = { job: id, dueAt: due.dueAt.toISOString() };
    entry.due = nextDue(timetable, dueAt, now, this.#dueTimes);
    entry.isUnknown = false;
    if (entry.runningSince !== undefined) {
      const since = entry.runningSince.toISOString();
      if (entry.skipped === 0) {
        logger.warning('schedule.overlap', `${id} was due at ${fields.dueAt} and still runs since ${since}: skipped`, {
          ...fields,
          runningSince: since,
        });
      }
      entry.skipped += 1;
      return;
    }
    const lateMs = now.getTime() - due.fireAt.getTime();
    if (lateMs >= LATE_MS_MIN) {
      logger.warning('schedule.late', `${id} was due at ${fields.dueAt} and was missed: it runs now, once`, {
        ...fields,
        lateMs,
      });
    }
    entry.runningSince = now;
    const fired = { id, dueAt, nextFireAt: entry.due?.fireAt, resumes: due.resumes === true };
    const running = run(fired)
      .then(({ last }) => this.#learn(entry, last))
      .catch((error: unknown) => {
        logger.error('schedule.run_failed', `${id} failed in a way that it should not: ${messageOf(error)}`, fields);
      })
      .finally(() => {
        this.#runs.delete(running);
        this.#ended(entry);
      });
    this.#runs.set(running, id);
  }

  #ended(entry: Entry): void {
    if (entry.skipped > 1) {
      const { id } = entry.timetable;
      this.#options.logger.info('schedule.caught_up', `${id} skipped ${entry.skipped} due times while it ran`, {
        job: id,
        skipped: entry.skipped,
      });
    }
    entry.runningSince = undefined;
    entry.skipped = 0;
  }

  /** An interval that another host has served goes on from there: two hosts with two beginnings come to agree. */
  #learn(entry: Entry, last: Date | undefined): void {
    const { timetable } = entry;
    if (last === undefined || timetable.schedule.kind !== 'interval') return;
    entry.due = firstDue(timetable, last, this.#options.clock.now(), this.#dueTimes);
    this.#wake.abort();
  }

  /** A clock that is set back would leave every job waiting for the time that it had shown before. */
  #noticeSetBack(): void {
    const { clock, logger } = this.#options;
    const clocks = this.#clocks();
    const setBackMs = clocks.steadyMs - this.#seen.steadyMs - (clocks.wallMs - this.#seen.wallMs);
    this.#seen = clocks;
    if (setBackMs < SET_BACK_MS_MIN) return;
    const now = clock.now();
    logger.warning('schedule.clock_set_back', `the clock was set back by ${Math.round(setBackMs / 1_000)} s`, {
      setBackMs,
    });
    for (const entry of this.#entries.values()) {
      const { due } = entry;
      if (due === undefined) continue;
      const anew = nextDue(entry.timetable, now, now, this.#dueTimes);
      if (anew !== undefined && anew.fireAt < due.fireAt) entry.due = anew;
    }
  }

  #clocks(): { readonly wallMs: number; readonly steadyMs: number } {
    const { clock } = this.#options;
    return { wallMs: clock.now().getTime(), steadyMs: clock.monotonicMs() };
  }
}
