import { PgarkError } from '../common/errors.ts';
import type { PeriodName } from './policy.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** The longest that a period can be, also one in which summer time ends. */
export const PERIOD_MS_MAX: Readonly<Record<PeriodName, number>> = {
  hourly: HOUR_MS,
  daily: DAY_MS + HOUR_MS,
  weekly: 7 * DAY_MS + HOUR_MS,
  monthly: 31 * DAY_MS + HOUR_MS,
  yearly: 366 * DAY_MS,
};

interface LocalTime {
  readonly year: number;
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  /** `GMT+02:00`: tells the two hours apart that bear one name when summer time ends. */
  readonly offset: string;
}

/** Names the hour, day, ISO week, month or year that a time falls into, as the calendar of one time zone has it. */
export type PeriodOf = (time: Date, period: PeriodName) => string;

/** `timezone` is an IANA name; `config-invalid` for one that is unknown. */
export function periodsIn(timezone: string): PeriodOf {
  const format = formatIn(timezone);
  return (time, period) => {
    const local = localTime(format, time);
    const month = `${local.year}-${local.month}`;
    switch (period) {
      case 'hourly':
        return `${month}-${local.day} ${local.hour} ${local.offset}`;
      case 'daily':
        return `${month}-${local.day}`;
      case 'weekly':
        return weekOf(local);
      case 'monthly':
        return month;
      case 'yearly':
        return `${local.year}`;
      default:
        return period satisfies never;
    }
  };
}

function formatIn(timezone: string): Intl.DateTimeFormat {
  try {
    return new Intl.DateTimeFormat('en-US-u-ca-gregory-nu-latn', {
      timeZone: timezone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      timeZoneName: 'longOffset',
    });
  } catch (error) {
    throw new PgarkError('config-invalid', `the time zone "${timezone}" is unknown`, {
      hint: 'use an IANA name such as UTC or Europe/Berlin',
      cause: error,
    });
  }
}

function localTime(format: Intl.DateTimeFormat, time: Date): LocalTime {
  const parts = new Map(format.formatToParts(time).map((part) => [part.type, part.value]));
  const number = (type: Intl.DateTimeFormatPartTypes): number => Number(parts.get(type));
  return {
    year: number('year'),
    month: number('month'),
    day: number('day'),
    hour: number('hour'),
    offset: parts.get('timeZoneName') ?? '',
  };
}

/** The day count of the week's Monday. Dates are counted as if in UTC, where every day has 24 hours. */
function weekOf(local: LocalTime): string {
  const dayCount = Date.UTC(local.year, local.month - 1, local.day) / DAY_MS;
  // Day 0, 1970-01-01, was a Thursday.
  const daysSinceMonday = (((dayCount + 3) % 7) + 7) % 7;
  return `week of ${dayCount - daysSinceMonday}`;
}
