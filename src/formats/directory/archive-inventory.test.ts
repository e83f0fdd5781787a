import { describe, expect, test } from 'vitest';
import { customSample, partitionedSample, SAMPLE_MAJORS } from '../../../test/support/toc-samples.ts';
import { inventoryOf } from './archive-inventory.ts';

const NOTHING = { layout: 1, files: [], tables: [] } as const;

describe('the inventory of an archive', () => {
  test.each(SAMPLE_MAJORS)('by pg_dump %i has what is defined, and neither data nor the archive itself', (major) => {
    const { encoding, definitions, sequences, tablesWithoutRows } = inventoryOf(customSample(major), {
      ...NOTHING,
      files: [],
      tables: [],
    });
    expect(encoding).toBe('UTF8');
    const kinds = new Set(definitions.map(({ kind }) => kind));
    expect([...kinds]).toEqual(expect.arrayContaining(['TABLE', 'SEQUENCE', 'CONSTRAINT', 'FK CONSTRAINT', 'TRIGGER']));
    for (const kind of kinds)
      expect(kind).not.toMatch(/DATA|^(ENCODING|STDSTRINGS|SEARCHPATH|DATABASE|BLOB|SEQUENCE SET)/);
    expect(definitions.some(({ name }) => name === 'public.customer')).toBe(true);
    expect(sequences.size).toBeGreaterThan(0);
    for (const position of sequences.values()) expect(position).toMatch(/^\d+(, not used yet)?$/);
    expect(tablesWithoutRows).toEqual([]);
  });

  test('takes a partitioned table for one that has no rows of its own', () => {
    const toc = partitionedSample();
    expect(toc.entries.some(({ definition }) => definition?.includes('PARTITION BY'))).toBe(true);
    const { tablesWithoutRows } = inventoryOf(toc, { ...NOTHING, files: [], tables: [] });
    expect(tablesWithoutRows).toEqual([]);
    const without = toc.entries.filter(({ description }) => description !== 'TABLE DATA');
    const left = inventoryOf({ ...toc, entries: without }, { ...NOTHING, files: [], tables: [] });
    expect(left.tablesWithoutRows.length).toBe(toc.entries.length - without.length);
  });
});
