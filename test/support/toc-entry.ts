import { toByteString } from '../../src/postgres/toc/byte-string.ts';
import { SECTION, type TocEntry } from '../../src/postgres/toc/toc.ts';

/** `TABLE public.orders`, which depends on the entries with these ids. */
export function tocEntry(
  dumpId: number,
  description: string,
  name: string,
  ...dependencies: readonly number[]
): TocEntry {
  const [, namespace, tag = ''] = /^(?:([^. ]*)\.)?(.*)$/s.exec(name) ?? [];
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
    namespace: namespace === undefined ? null : toByteString(namespace),
    tablespace: null,
    tableAccessMethod: null,
    relkind: undefined,
    owner: null,
    withOids: false,
    dependencies,
  };
}

/** What a backup of a small shop holds, in the order of ids; a test adds to it what it is about. */
export function shopEntries(...more: readonly TocEntry[]): readonly TocEntry[] {
  const entries = [
    tocEntry(1, 'SCHEMA', 'crm'),
    tocEntry(2, 'TYPE', 'crm.mood', 1),
    tocEntry(10, 'TABLE', 'crm.customer', 1, 2),
    tocEntry(11, 'SEQUENCE', 'crm.customer_id_seq', 1, 10),
    tocEntry(12, 'SEQUENCE OWNED BY', 'crm.customer_id_seq', 11, 10),
    tocEntry(13, 'DEFAULT', 'crm.customer id', 11, 10),
    tocEntry(14, 'COMMENT', 'crm.TABLE customer', 10),
    tocEntry(20, 'TABLE', 'public.invoice'),
    tocEntry(21, 'TABLE', 'public.log'),
    tocEntry(22, 'TABLE', 'public.log_25'),
    tocEntry(23, 'TABLE ATTACH', 'public.log_25', 21, 22),
    tocEntry(24, 'VIEW', 'public.both', 10, 20),
    tocEntry(30, 'TABLE DATA', 'crm.customer', 10),
    tocEntry(31, 'TABLE DATA', 'public.invoice', 20),
    tocEntry(32, 'TABLE DATA', 'public.log_25', 22),
    tocEntry(33, 'SEQUENCE SET', 'crm.customer_id_seq', 11),
    tocEntry(40, 'CONSTRAINT', 'crm.customer customer_pkey', 10, 10),
    tocEntry(41, 'CONSTRAINT', 'public.invoice invoice_pkey', 20),
    tocEntry(44, 'FK CONSTRAINT', 'public.invoice invoice_customer_fkey', 40, 20, 10),
    ...more,
  ];
  return entries.sort((a, b) => a.dumpId - b.dumpId);
}
