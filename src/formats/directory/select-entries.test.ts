import { describe, expect, test } from 'vitest';
import { shopEntries, tocEntry } from '../../../test/support/toc-entry.ts';
import { selectEntries } from './select-entries.ts';

const ENTRIES = shopEntries(
  tocEntry(3, 'FUNCTION', 'public.touch()'),
  tocEntry(4, 'ACL', 'public.FUNCTION touch()', 3),
  tocEntry(42, 'COMMENT', 'crm.CONSTRAINT customer_pkey', 40),
  tocEntry(43, 'TRIGGER', 'crm.customer touch', 3, 10),
);

function select(selection: { tables?: readonly string[]; schemas?: readonly string[] }): string[] {
  const { selected } = selectEntries(ENTRIES, { tables: [], schemas: [], ...selection });
  return [...selected].sort((a, b) => a.dumpId - b.dumpId).map(({ dumpId, description }) => `${dumpId} ${description}`);
}

describe('a part of a backup', () => {
  test('is all of it where nothing was chosen', () => {
    expect(selectEntries(ENTRIES, { tables: [], schemas: [] }).selected.size).toBe(ENTRIES.length);
  });

  test('has a table with what is a part of it, what it needs, and the rights to that', () => {
    expect(select({ tables: ['customer'] })).toEqual([
      '1 SCHEMA',
      '2 TYPE',
      '3 FUNCTION',
      '4 ACL',
      '10 TABLE',
      '11 SEQUENCE',
      '12 SEQUENCE OWNED BY',
      '13 DEFAULT',
      '14 COMMENT',
      '30 TABLE DATA',
      '33 SEQUENCE SET',
      '40 CONSTRAINT',
      '42 COMMENT',
      '43 TRIGGER',
    ]);
  });

  test('has a foreign key only if both tables come along', () => {
    expect(select({ tables: ['public.invoice'] })).not.toContain('44 FK CONSTRAINT');
    expect(select({ tables: ['public.invoice', 'crm.customer'] })).toContain('44 FK CONSTRAINT');
  });

  test('has what a view reads without its rows', () => {
    const selected = select({ tables: ['both'] });
    expect(selected).toEqual(expect.arrayContaining(['10 TABLE', '20 TABLE', '24 VIEW']));
    expect(selected.filter((each) => each.includes('DATA'))).toEqual([]);
  });

  test('has a partitioned table with its partitions, and a partition by itself', () => {
    expect(select({ tables: ['log'] })).toEqual(['21 TABLE', '22 TABLE', '23 TABLE ATTACH', '32 TABLE DATA']);
    expect(select({ tables: ['log_25'] })).toEqual(['22 TABLE', '32 TABLE DATA']);
  });

  test('has all of a schema', () => {
    expect(select({ schemas: ['crm'] })).toEqual(select({ tables: ['customer'] }));
  });

  test('is asked for by a name that is there, or what there is is said', () => {
    expect(() => select({ tables: ['crm.custmer'] })).toThrow(
      expect.objectContaining({ code: 'restore-failed', hint: 'did you mean crm.customer?' }),
    );
    expect(() => select({ schemas: ['cmr'] })).toThrow(expect.objectContaining({ hint: 'did you mean crm?' }));
  });
});
