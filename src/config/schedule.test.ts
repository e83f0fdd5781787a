import { describe, expect, test } from 'vitest';
import { parseSchedule } from './schedule.ts';

describe('schedules', () => {
  test.each(['* * * * *', '*/5 * * * *', '30 2 * * MON-FRI', '0 0 1 */3 *', '@daily', '@hourly', '0 0 29 2 *'])(
    '%s is a cron expression',
    (text) => {
      expect(parseSchedule(text)).toEqual({ kind: 'cron', expression: text });
    },
  );

  test('a duration is an interval', () => {
    expect(parseSchedule('6h')).toEqual({ kind: 'interval', everyMs: 21_600_000 });
  });

  test.each([
    ['61 * * * *', /minute: 61/],
    ['* * * * * *', /five cron fields/],
    ['every day', /five cron fields/],
    ['', /five cron fields/],
    ['*/0 * * * *', /no cron expression/],
    ['0 0 30 2 *', /never fires/],
    ['@reboot', /no cron expression/],
    ['500ms', /at least 1s/],
  ])('%j is refused with a reason', (text, reason) => {
    expect(parseSchedule(text)).toMatch(reason);
  });
});
