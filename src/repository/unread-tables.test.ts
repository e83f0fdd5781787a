import { describe, expect, test } from 'vitest';
import { describeUnread, unreadFields } from './unread-tables.ts';

describe('tables whose rows could not be read', () => {
  const many = Array.from({ length: 300 }, (_, index) => `public.t${index}`);

  test.each([
    [[], undefined, undefined],
    [['public.t'], '1 table: public.t', '1 table'],
    [['public.t', 'public.u'], '2 tables: public.t, public.u', '2 tables'],
    [many, '300 tables: public.t0, public.t1, public.t2, public.t3, public.t4 and 295 more', '300 tables'],
  ] as const)('are recorded by name in the open alone: %#', (tables, open, encrypted) => {
    expect(describeUnread(unreadFields(tables, false))).toBe(open);
    expect(describeUnread(unreadFields(tables, true))).toBe(encrypted);
    expect(unreadFields(tables, true).unreadable).toEqual([]);
    expect(unreadFields(tables, false).unreadable.length).toBeLessThanOrEqual(100);
  });
});
