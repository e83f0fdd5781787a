import { createHash } from 'node:crypto';
import type { Schedule } from '../config/schedule.ts';
import type { DueTimes } from '../observability/expectations.ts';

/** A clock of another host, or of this one before it was set, may have been ahead by so much and still be believed. */
export const CLOCK_TRUST_MS = 60_000;

/** One time at which a job is to run. */
export interface Due {
  /** As the schedule says: the same on every host that has the configuration. */
  readonly dueAt: Date;
  /** With the jitter: when it really begins. */
  readonly fireAt: Date;
  /** It has fired before, and what it began has not ended. */
  readonly resumes?: true;
}

/** What decides when a job runs. */
export interface Timetable {
  /** Decides the jitter, together with the due time. */
  readonly id: string;
  readonly schedule: Schedule;
  readonly jitterMs: number;
}

/**
 * The due time that a job waits for when nothing is running yet. `last` is the last due time, or start, that is known of
 * it: what should have come between then and now was missed, and is due at once, once. A job that never ran waits for
 * its cron expression's next time; an interval that nobody has begun begins now.
 */
export function firstDue(timetable: Timetable, last: Date | undefined, now: Date, dueTimes: DueTimes): Due | undefined {
  const { schedule } = timetable;
  // A time that has not come was told by a clock that was wrong; to wait for it could take years.
  const believed = last !== undefined && last.getTime() <= now.getTime() + CLOCK_TRUST_MS ? last : undefined;
  if (schedule.kind === 'cron') return dueOf(timetable, dueTimes.firstAfter([schedule], believed ?? now), dueTimes);
  if (believed === undefined) return dueOf(timetable, now, dueTimes);
  const mark = new Date(believed.getTime() + schedule.everyMs);
  return dueOf(timetable, orNow(mark, schedule.everyMs, now), dueTimes);
}

/**
 * The due time after one that has just fired. Times of a cron expression that have passed meanwhile are left out:
 * who slept through many runs once.
 */
export function nextDue(timetable: Timetable, fired: Date, now: Date, dueTimes: DueTimes): Due | undefined {
  const { schedule, jitterMs } = timetable;
  if (schedule.kind === 'interval') {
    return dueOf(timetable, new Date(fired.getTime() + schedule.everyMs), dueTimes);
  }
  // One that has passed may still wait for its jitter.
  const from = new Date(Math.max(fired.getTime(), now.getTime() - jitterMs));
  let due = dueOf(timetable, dueTimes.firstAfter([schedule], from), dueTimes);
  while (due !== undefined && due.fireAt <= now) {
    due = dueOf(timetable, dueTimes.firstAfter([schedule], due.dueAt), dueTimes);
  }
  return due;
}

/** What a due time that fires now counts as. An interval of which a whole one was missed begins anew. */
export function dueNow({ schedule }: Timetable, { dueAt }: Due, now: Date): Date {
  return schedule.kind === 'interval' ? orNow(dueAt, schedule.everyMs, now) : dueAt;
}

/**
 * Due times of one job that are closer than this are the same one: hosts that begin an interval at different moments, or
 * make up for the same missed run, do it once.
 */
export function spacingOf(schedule: Schedule): number {
  return schedule.kind === 'interval' ? schedule.everyMs : 1;
}

/**
 * Milliseconds from 0 to below `jitterMsMax` by which a run begins later than it is due. It follows from the job and the
 * due time alone, so that hosts which share a configuration agree on it, and many jobs of one schedule spread.
 */
export function jitterOf(id: string, dueAt: Date, jitterMsMax: number): number {
  if (jitterMsMax <= 0) return 0;
  const digest = createHash('sha256').update(`${id}\n${dueAt.toISOString()}`).digest();
  return Math.floor((digest.readUInt32BE(0) / 2 ** 32) * jitterMsMax);
}

/** The mark of an interval; now, if the one after it would have been due already. */
function orNow(mark: Date, everyMs: number, now: Date): Date {
  return mark.getTime() + everyMs <= now.getTime() ? now : mark;
}

function dueOf(timetable: Timetable, dueAt: Date | undefined, dueTimes: DueTimes): Due | undefined {
  if (dueAt === undefined) return undefined;
  const { id, schedule, jitterMs } = timetable;
  const following = dueTimes.firstAfter([schedule], dueAt);
  const gapMs = following === undefined ? jitterMs : following.getTime() - dueAt.getTime();
  // A run that jitter moves beyond the next due time would be skipped for it.
  const laterMs = jitterOf(id, dueAt, Math.min(jitterMs, gapMs));
  return { dueAt, fireAt: new Date(dueAt.getTime() + laterMs) };
}
