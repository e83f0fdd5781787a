import { PgarkError } from '../common/errors.ts';
import { parseDurationMs } from '../config/units.ts';

/** A date, with a time if need be, and a zone if it is not UTC. */
const TIME = /^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?)?$/;

/** The time that an option names. Error: `usage`. */
export function parseTime(option: string, given: string): Date {
  const [whole, day = '', minute = '00:00', seconds = ':00', zone = 'Z'] = TIME.exec(given) ?? [];
  const time = new Date(`${day}T${minute}${seconds}${zone.toUpperCase()}`);
  // JavaScript takes the 30th of February for the 2nd of March.
  const midnight = new Date(`${day}T00:00:00Z`);
  const valid = whole !== undefined && [time, midnight].every((each) => !Number.isNaN(each.getTime()));
  if (valid && midnight.toISOString().startsWith(day)) return time;
  throw new PgarkError('usage', `${option} ${given} is no time`, {
    hint: 'write 2026-11-20T02:00:00Z; without a zone it means UTC, without a time the first moment of the day',
  });
}

/** The time that an option names, or that was so long ago. Error: `usage`. */
export function sinceTime(option: string, given: string, now: Date): Date {
  const durationMs = parseDurationMs(given);
  return durationMs === undefined ? parseTime(option, given) : new Date(Math.max(0, now.getTime() - durationMs));
}
