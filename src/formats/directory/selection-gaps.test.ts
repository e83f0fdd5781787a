import { describe, expect, test } from 'vitest';
import { shopEntries, tocEntry } from '../../../test/support/toc-entry.ts';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import type { Selection } from '../load-source.ts';
import { describeEntry } from './find-entries.ts';
import { phasesOf } from './restore-phases.ts';

const inheriting = (clause: string) => ({
  definition: toByteString(`CREATE TABLE x (\n    a integer\n)\nINHERITS (${clause});\n`),
});
const ENTRIES = shopEntries(
  { ...tocEntry(25, 'TABLE', 'public.old_invoice', 20), ...inheriting('public.invoice') },
  tocEntry(26, 'TABLE', 'public.of_invoices', 20),
  tocEntry(27, 'VIEW', 'public.recent', 21),
  { ...tocEntry(28, 'TABLE', 'crm.vip', 1, 10), ...inheriting('crm.customer') },
);

function gaps(selection: Partial<Selection>): { rows: readonly string[]; behind: readonly string[] } {
  const chosen = { tables: [], schemas: [], sections: [], ...selection };
  const { withoutRows, leftBehind } = phasesOf({ entries: ENTRIES }, chosen).gaps;
  return { rows: withoutRows.map(describeEntry), behind: leftBehind.map(describeEntry) };
}

const NONE = { rows: [], behind: [] };
const KEY = 'FK CONSTRAINT public.invoice invoice_customer_fkey';

describe('what a part of a backup lacks', () => {
  test('is nothing of a whole one', () => {
    expect(gaps({})).toEqual(NONE);
    expect(gaps({ excluding: { tables: [], schemas: ['crm'], tableData: ['log'] } })).toEqual(NONE);
  });

  test('are rows of tables that it needs, also where they lie in partitions', () => {
    expect(gaps({ tables: ['both'] })).toEqual({ rows: ['TABLE crm.customer', 'TABLE public.invoice'], behind: [] });
    expect(gaps({ tables: ['recent'] })).toEqual({ rows: ['TABLE public.log'], behind: [] });
  });

  test('are foreign keys and tables that inherit from those that were chosen', () => {
    expect(gaps({ tables: ['invoice'] })).toEqual({ rows: [], behind: ['TABLE public.old_invoice', KEY] });
    expect(gaps({ tables: ['invoice', 'old_invoice', 'customer'] })).toEqual({ rows: [], behind: ['TABLE crm.vip'] });
  });

  test('is not what somebody has left out by its name, nor what is in sections that he does not want', () => {
    const excluding = { tables: ['old_invoice'], schemas: [], tableData: ['customer'] };
    expect(gaps({ tables: ['invoice', 'both'], excluding })).toEqual({ rows: [], behind: [KEY] });
    expect(gaps({ tables: ['invoice', 'both', 'customer'], sections: ['pre-data'] })).toEqual(NONE);
  });

  test('are rights to what may have been made by an extension that comes along, or by one that does not', () => {
    const extension = (dumpId: number, name: string) => ({
      ...tocEntry(dumpId, 'EXTENSION', name),
      definition: toByteString(`CREATE EXTENSION IF NOT EXISTS ${name} WITH SCHEMA public;\n`),
    });
    const entries = [
      extension(2, 'dblink'),
      extension(3, 'hstore'),
      tocEntry(4, 'ACL', 'public.FUNCTION dblink(text)', 900),
      tocEntry(5, 'ACL', 'pg_catalog.FUNCTION now()', 901),
      tocEntry(6, 'TABLE DATA', 'public.settings', 902),
      tocEntry(10, 'VIEW', 'public.v', 2),
      tocEntry(11, 'VIEW', 'public.both', 2, 3),
      tocEntry(12, 'TABLE', 'public.t'),
    ];
    const behind = (table: string, sections: Selection['sections'] = []) =>
      phasesOf({ entries }, { tables: [table], schemas: [], sections }).gaps.leftBehind.map(describeEntry);
    const right = ['ACL public.FUNCTION dblink(text)'];
    expect(behind('v')).toEqual(right);
    expect(behind('v', ['pre-data'])).toEqual(right);
    expect(behind('v', ['post-data'])).toEqual([]);
    expect(behind('both')).toEqual([]);
    expect(behind('t')).toEqual([]);
  });
});
