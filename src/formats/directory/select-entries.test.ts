import { describe, expect, test } from 'vitest';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import { SECTION, type TocEntry } from '../../postgres/toc/toc.ts';
import { selectEntries } from './select-entries.ts';

/** `TABLE public.orders` that depends on the entries at these places. */
function entry(dumpId: number, description: string, name: string, ...dependencies: readonly number[]): TocEntry {
  const [namespace, tag = ''] = name.includes('.') ? name.split('.') : [null, name];
  return {
    dumpId,
    hasData: description === 'TABLE DATA',
    tableOid: 0,
    oid: 0,
    tag: toByteString(tag),
    description: toByteString(description),
    section: SECTION.none,
    definition: null,
    dropStatement: null,
    copyStatement: null,
    namespace: namespace === null || namespace === undefined ? null : toByteString(namespace),
    tablespace: null,
    tableAccessMethod: null,
    relkind: undefined,
    owner: null,
    withOids: false,
    dependencies,
  };
}

const ENTRIES = [
  entry(1, 'SCHEMA', 'crm'),
  entry(2, 'TYPE', 'public.mood'),
  entry(3, 'FUNCTION', 'public.touch()'),
  entry(4, 'ACL', 'public.FUNCTION touch()', 3),
  entry(10, 'TABLE', 'crm.customer', 1, 2),
  entry(11, 'SEQUENCE', 'crm.customer_id_seq', 1, 10),
  entry(12, 'SEQUENCE OWNED BY', 'crm.customer_id_seq', 11),
  entry(13, 'DEFAULT', 'crm.customer id', 11, 10),
  entry(14, 'COMMENT', 'crm.TABLE customer', 10),
  entry(20, 'TABLE', 'public.invoice'),
  entry(21, 'TABLE', 'public.log'),
  entry(22, 'TABLE', 'public.log_25'),
  entry(23, 'TABLE ATTACH', 'public.log_25', 21, 22),
  entry(24, 'VIEW', 'public.both', 10, 20),
  entry(30, 'TABLE DATA', 'crm.customer', 10),
  entry(31, 'TABLE DATA', 'public.invoice', 20),
  entry(32, 'TABLE DATA', 'public.log_25', 22),
  entry(33, 'SEQUENCE SET', 'crm.customer_id_seq', 11),
  entry(40, 'CONSTRAINT', 'crm.customer customer_pkey', 10, 10),
  entry(41, 'CONSTRAINT', 'public.invoice invoice_pkey', 20),
  entry(42, 'COMMENT', 'crm.CONSTRAINT customer_pkey', 40),
  entry(43, 'TRIGGER', 'crm.customer touch', 3, 10),
  entry(44, 'FK CONSTRAINT', 'public.invoice invoice_customer_fkey', 40, 20, 10),
];

function select(selection: { tables?: readonly string[]; schemas?: readonly string[] }): string[] {
  const selected = selectEntries(ENTRIES, { tables: [], schemas: [], ...selection });
  return [...selected].sort((a, b) => a.dumpId - b.dumpId).map(({ dumpId, description }) => `${dumpId} ${description}`);
}

describe('a part of a backup', () => {
  test('is all of it where nothing was chosen', () => {
    expect(selectEntries(ENTRIES, { tables: [], schemas: [] }).size).toBe(ENTRIES.length);
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
