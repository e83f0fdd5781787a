import { Cron } from 'croner';
import { messageOf } from '../common/errors.ts';
import { parseDurationMs } from './units.ts';

/** When a job runs: by a cron expression in the configuration's time zone, or each time an interval has passed. */
export type Schedule =
  | { readonly kind: 'cron'; readonly expression: string }
  | { readonly kind: 'interval'; readonly everyMs: number };

const EVERY_MS_MIN = 1_000;

/**
 * Reads a schedule: five cron fields (minute hour day month weekday), a nickname such as `@daily`, or an interval such
 * as `6h`. Returns a sentence on what is wrong instead if it is none of them, or a cron expression that never fires.
 */
export function parseSchedule(text: string): Schedule | string {
  const everyMs = parseDurationMs(text);
  if (everyMs !== undefined) {
    return everyMs >= EVERY_MS_MIN ? { kind: 'interval', everyMs } : 'an interval is at least 1s';
  }
  const expression = text.trim();
  if (!expression.startsWith('@') && expression.split(/\s+/).length !== 5) {
    return `"${text}" is neither five cron fields (minute hour day month weekday) nor @daily and its like nor an interval such as 6h`;
  }
  try {
    // A fixed offset needs no table of time zones, which every command would read for this.
    const cron = new Cron(expression, { mode: '5-part', paused: true, utcOffset: 0 });
    if (cron.nextRun() === null) return `"${text}" never fires: there is no such day`;
  } catch (error) {
    return `"${text}" is no cron expression: ${messageOf(error).replace(/^CronPattern: /, '')}`;
  }
  return { kind: 'cron', expression };
}
