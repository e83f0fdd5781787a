import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import { type CustomEntry, type CustomToc, SECTION } from '../../postgres/toc/toc.ts';
import { type PlanRequest, planDump, type TablePiece } from './piece-plan.ts';
import type { TableFacts } from './tables.ts';

function entry(dumpId: number, description: string, change: Partial<CustomEntry> = {}): CustomEntry {
  return {
    dumpId,
    hasData: false,
    tableOid: 0,
    oid: 0,
    tag: toByteString(''),
    description: toByteString(description),
    section: SECTION.preData,
    definition: null,
    dropStatement: null,
    copyStatement: null,
    namespace: null,
    tablespace: null,
    tableAccessMethod: null,
    relkind: undefined,
    owner: null,
    withOids: false,
    dependencies: [],
    offsetState: 1,
    offset: 0n,
    ...change,
  };
}

function toc(entries: readonly CustomEntry[], version: CustomToc['version'] = 14): CustomToc {
  const createdAt = { second: 0, minute: 0, hour: 0, day: 1, month: 0, year: 126, isDst: 0 };
  const names = { database: null, serverVersion: null, dumpVersion: null };
  return { version, format: 'custom', offsetBytes: 8, compression: 0, createdAt, ...names, entries };
}

function tableToc(): CustomToc {
  const copyStatement = toByteString('COPY public.t (a, "b, c") FROM stdin;\n');
  const data = { hasData: true, oid: 7, section: SECTION.data, copyStatement, dependencies: [1] };
  return toc([entry(1, 'TABLE'), entry(2, 'TABLE DATA', data)]);
}

const facts: TableFacts = {
  oid: 7,
  sql: 'public.t',
  schema: 'public',
  name: 't',
  columns: 'a, "b, c"',
  columnCount: 2,
  isHeap: true,
  bytes: 8192,
  pages: 1,
  hasTriggers: false,
  condition: '',
};

function plan(table: Partial<TableFacts>, change: Partial<PlanRequest> = {}) {
  return planDump({
    toc: tableToc(),
    tables: new Map([[7, { ...facts, ...table }]]),
    serverMajor: 17,
    pieceBytes: 1000,
    largeObjectBytes: 0,
    compression: 'zstd',
    ...change,
  });
}

describe('the plan of a dump', () => {
  test('reads each page of a table once, with an open end', () => {
    fc.assert(
      fc.property(fc.nat(200), fc.nat(400_000), (pages, bytes) => {
        const { pieces, toc: directory } = plan({ pages, bytes });
        const ranges = pieces.map((piece) => (piece as TablePiece).pages);
        if (ranges.length === 1) {
          expect(ranges).toEqual([undefined]);
          return;
        }
        expect(ranges.length).toBeLessThanOrEqual(pages);
        const sorted = ranges.map((range) => range ?? { from: -1 }).sort((a, b) => a.from - b.from);
        expect(sorted[0]?.from).toBe(0);
        for (const [index, { from, to }] of sorted.entries()) {
          expect(to).toBe(sorted[index + 1]?.from);
          if (to !== undefined) expect(to).toBeGreaterThan(from);
        }
        // Each piece has a file that the TOC names.
        const files = new Set(directory.entries.map(({ file }) => String(file)));
        for (const piece of pieces) expect(files).toContain((piece as TablePiece).file);
      }),
    );
  });

  test.each([
    ['is no heap', { isHeap: false }, {}],
    ['belongs to an extension that says which rows are the users’', { condition: 'WHERE a > 1' }, {}],
    ['is on a server that would read all of it for each range', {}, { serverMajor: 13 }],
    ['has no pages', { pages: 0 }, {}],
  ])('leaves a table whole that %s', (_why, table, change) => {
    const { pieces, smallFiles, cutTables } = plan({ bytes: 1_000_000, pages: 100, ...table }, change);
    expect(pieces).toMatchObject([{ file: '2.dat', entry: 2 }]);
    expect(pieces[0]).not.toHaveProperty('pages');
    expect({ smallFiles, cutTables }).toEqual({ smallFiles: [], cutTables: [] });
  });

  test('gives the file of a table in pieces the end of its data and no row', () => {
    const { smallFiles, cutTables, tables } = plan({ bytes: 3000, pages: 100 });
    expect(smallFiles).toEqual([{ file: '2.dat', role: 'data', content: '\\.\n\n\n' }]);
    expect(cutTables).toEqual([7]);
    expect(tables).toEqual([{ entry: 2, schema: 'public', name: 't' }]);
  });

  test('begins with what is largest', () => {
    const data = (dumpId: number, oid: number): CustomEntry =>
      entry(dumpId, 'TABLE DATA', {
        hasData: true,
        oid,
        copyStatement: toByteString('COPY public.t (a, "b, c") FROM stdin;\n'),
      });
    const tables = new Map([
      [7, { ...facts, bytes: 10 }],
      [8, { ...facts, oid: 8, bytes: 30 }],
    ]);
    const { pieces } = plan({}, { toc: toc([data(2, 7), data(3, 8)]), tables });
    expect(pieces.map(({ entry: id }) => id)).toEqual([3, 2]);
  });

  test('refuses a table whose columns pg_dump sees otherwise', () => {
    expect(() => plan({ columnCount: 3 })).toThrow('has 2 columns, the catalog 3');
  });

  test('refuses a table that was not locked, and data of an unknown kind', () => {
    expect(() => plan({}, { tables: new Map() })).toThrow(expect.objectContaining({ code: 'dump-failed' }));
    const unknown = toc([entry(2, 'NEWS DATA', { hasData: true })]);
    expect(() => plan({}, { toc: unknown })).toThrow(expect.objectContaining({ code: 'archive-unsupported' }));
  });

  test('lists all large objects in one file before archives of 1.16, and those of each entry from then on', () => {
    const before = toc([
      entry(1, 'BLOB', { tag: toByteString('501') }),
      entry(2, 'BLOB', { tag: toByteString('502') }),
      entry(3, 'BLOBS', { hasData: true }),
    ]);
    expect(plan({}, { toc: before, largeObjectBytes: 100 })).toMatchObject({
      pieces: [{ kind: 'large-objects', entry: 3, oids: ['501', '502'], bytes: 100 }],
      smallFiles: [{ file: 'blobs.toc', role: 'large-objects', content: '501 blob_501.dat\n502 blob_502.dat\n' }],
    });
    const since = toc(
      [
        entry(1, 'BLOB METADATA', { definition: toByteString('501\n502\n') }),
        entry(2, 'BLOBS', { hasData: true, dependencies: [1] }),
        entry(3, 'BLOB METADATA', { definition: toByteString('503\n') }),
        entry(4, 'BLOBS', { hasData: true, dependencies: [3] }),
      ],
      16,
    );
    expect(plan({}, { toc: since })).toMatchObject({
      pieces: [
        { entry: 2, oids: ['501', '502'] },
        { entry: 4, oids: ['503'] },
      ],
      smallFiles: [{ file: 'blobs_2.toc' }, { file: 'blobs_4.toc', content: '503 blob_503.dat\n' }],
    });
  });
});
