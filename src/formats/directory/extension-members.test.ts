import { expect, test } from 'vitest';
import { tocEntry } from '../../../test/support/toc-entry.ts';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import type { TocEntry } from '../../postgres/toc/toc.ts';
import { selectEntries } from './select-entries.ts';

const extension = (dumpId: number, name: string, schema: string): TocEntry => ({
  ...tocEntry(dumpId, 'EXTENSION', name),
  definition: toByteString(`CREATE EXTENSION IF NOT EXISTS ${name} WITH SCHEMA ${schema};\n`),
});
const ENTRIES = [
  extension(2, 'jobs', 'pg_catalog'),
  extension(3, 'maps', '"my-maps"'),
  tocEntry(4, 'ACL', 'FOREIGN DATA WRAPPER of_maps', 900),
  tocEntry(5, 'ACL', 'LANGUAGE plpgsql', 901),
  tocEntry(6, 'ACL', 'pg_catalog.FUNCTION now()', 902),
  tocEntry(10, 'TABLE', 'public.t'),
  tocEntry(11, 'TABLE', 'public.route', 3),
  tocEntry(20, 'TABLE DATA', 'cron.job', 903),
  tocEntry(21, 'POLICY', 'cron.job own', 903),
  tocEntry(22, 'SEQUENCE SET', 'cron.job_ids', 904),
  tocEntry(23, 'SEQUENCE SET', 'my-maps.ids', 905),
];

function selected(chosen: { tables?: readonly string[]; schemas?: readonly string[] }): readonly number[] {
  const entries = selectEntries(ENTRIES, { tables: [], schemas: [], ...chosen }).selected;
  return [...entries].map(({ dumpId }) => dumpId).sort((a, b) => a - b);
}

test('what is of members of extensions comes along only where their schema’s are restored', () => {
  expect(selected({ tables: ['t'] })).toEqual([5, 6, 10]);
  expect(selected({ tables: ['route'] })).toEqual([3, 5, 6, 11, 23]);
});

test('rows in a schema that an extension has made may be of any', () => {
  expect(selected({ schemas: ['cron'] })).toEqual([2, 3, 4, 5, 6, 20, 21, 22, 23]);
});

test('rows of no extension that the archive has are left out', () => {
  const entries = ENTRIES.filter(({ description }) => description !== 'EXTENSION');
  const chosen = selectEntries(entries, { tables: [], schemas: ['cron'] }).selected;
  expect([...chosen].map(({ dumpId }) => dumpId)).toEqual([5, 6]);
});
