import { describe, expect, test } from 'vitest';
import { shopEntries, tocEntry } from '../../../test/support/toc-entry.ts';
import type { Exclusion } from '../load-source.ts';
import { excludeEntries } from './exclude-entries.ts';
import { describeEntry } from './find-entries.ts';

const ENTRIES = shopEntries(
  tocEntry(25, 'COMMENT', 'public.VIEW both', 24),
  tocEntry(26, 'VIEW', 'public.of both', 24),
  tocEntry(27, 'RULE', 'public.of both _RETURN', 26, 24),
  tocEntry(28, 'TABLE', 'public.allowed'),
  tocEntry(42, 'POLICY', 'crm.customer of_allowed', 28, 10),
);

function without(
  excluding: Partial<Exclusion>,
  entries = ENTRIES,
): { out: readonly string[]; also: readonly string[] } {
  const all = { tables: [], schemas: [], tableData: [], ...excluding };
  const { kept, alsoLeftOut } = excludeEntries(entries, new Set(entries), all);
  return {
    out: entries.filter((entry) => !kept.has(entry)).map(({ dumpId, description }) => `${dumpId} ${description}`),
    also: alsoLeftOut.map(describeEntry),
  };
}

describe('a backup without something', () => {
  test('is all of it where nothing was named', () => {
    expect(without({})).toEqual({ out: [], also: [] });
  });

  test('lacks a table with what is a part of it, and says what else cannot be without it', () => {
    expect(without({ tables: ['customer'] })).toEqual({
      out: [
        '10 TABLE',
        '11 SEQUENCE',
        '12 SEQUENCE OWNED BY',
        '13 DEFAULT',
        '14 COMMENT',
        '24 VIEW',
        '25 COMMENT',
        '26 VIEW',
        '27 RULE',
        '30 TABLE DATA',
        '33 SEQUENCE SET',
        '40 CONSTRAINT',
        '42 POLICY',
        '44 FK CONSTRAINT',
      ],
      also: ['VIEW public.both', 'VIEW public.of both', 'FK CONSTRAINT public.invoice invoice_customer_fkey'],
    });
  });

  test('lacks the partitions of a table with it, and one partition by itself', () => {
    const attached = ['22 TABLE', '23 TABLE ATTACH', '32 TABLE DATA'];
    expect(without({ tables: ['log'] })).toEqual({ out: ['21 TABLE', ...attached], also: [] });
    expect(without({ tables: ['public.log_25'] })).toEqual({ out: attached, also: [] });
  });

  test('lacks all of a schema', () => {
    const { out, also } = without({ schemas: ['crm'] });
    expect(out).toEqual(['1 SCHEMA', '2 TYPE', ...without({ tables: ['customer'] }).out]);
    expect(also).toEqual(without({ tables: ['customer'] }).also);
  });

  test('has a table whose rows were left out, also those of its partitions', () => {
    expect(without({ tableData: ['log', 'invoice'] })).toEqual({
      out: ['31 TABLE DATA', '32 TABLE DATA'],
      also: [],
    });
  });

  test.each([
    [
      'a table whose column is of a type that would go',
      tocEntry(50, 'TABLE', 'public.person', 2),
      { schemas: ['crm'] },
    ],
    ['a table that inherits', tocEntry(50, 'TABLE', 'public.child', 20), { tables: ['invoice'] }],
    ['a policy', tocEntry(50, 'POLICY', 'public.log restricted', 20, 21), { tables: ['invoice'] }],
    ['a default', tocEntry(50, 'DEFAULT', 'public.log id', 11, 21), { tables: ['customer'] }],
  ])('is refused where another table would lack %s', (_what, entry, excluding) => {
    const entries = [...ENTRIES, entry];
    expect(() => without(excluding, entries)).toThrow(
      expect.objectContaining({
        code: 'restore-failed',
        message: expect.stringMatching(`^${describeEntry(entry)} needs .*, which would be left out`),
      }),
    );
    const other = describeEntry(entry).split(' ')[1] ?? '';
    const { tables = [] } = excluding as Partial<Exclusion>;
    expect(without({ ...excluding, tables: [...tables, other] }, entries).out).toContain(`50 ${entry.description}`);
  });

  test('is asked for by names that are there', () => {
    for (const excluding of [{ tables: ['invoic'] }, { schemas: ['cmr'] }, { tableData: ['invoices'] }]) {
      expect(() => without(excluding)).toThrow(expect.objectContaining({ code: 'restore-failed' }));
    }
  });
});
