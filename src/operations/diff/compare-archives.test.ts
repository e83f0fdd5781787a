import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ArchiveInventory, Definition } from '../../formats/inventory.ts';
import { compareArchives } from './compare-archives.ts';

const EMPTY: ArchiveInventory = {
  kind: 'archive',
  encoding: 'UTF8',
  definitions: [],
  tables: [],
  tablesWithoutRows: [],
  sequences: new Map(),
  largeObjects: [],
};

function operator(sql: string, owner = 'app'): Definition {
  return { kind: 'OPERATOR', name: 'public.=', sql, owner, tablespace: '', accessMethod: '' };
}

const word = fc.constantFrom('a', 'b', 'c', '__proto__');
const arbitraryInventory: fc.Arbitrary<ArchiveInventory> = fc.record({
  kind: fc.constant('archive' as const),
  encoding: fc.constantFrom('UTF8', 'LATIN1'),
  definitions: fc.array(
    fc.record({ kind: word, name: word, sql: word, owner: word, tablespace: word, accessMethod: word }),
  ),
  tables: fc.uniqueArray(
    fc.record({ name: word, rows: fc.nat({ max: 2 }), hash: fc.constantFrom(undefined, 'one', 'other') }),
    { selector: ({ name }) => name },
  ),
  tablesWithoutRows: fc.uniqueArray(word),
  sequences: fc.uniqueArray(fc.tuple(word, word), { selector: ([name]) => name }).map((each) => new Map(each)),
  largeObjects: fc.uniqueArray(fc.record({ oid: word, sha256: word }), { selector: ({ oid }) => oid }),
});

describe('two archives', () => {
  test('are the same as themselves, in whatever order, as far as that is known', () => {
    fc.assert(
      fc.property(arbitraryInventory, (one) => {
        const turned = { ...one, definitions: one.definitions.toReversed(), tables: one.tables.toReversed() };
        const { objects, tables, sequences, largeObjects, same } = compareArchives(one, turned);
        expect(objects).toMatchObject({ added: [], removed: [], changed: [], sameCount: one.definitions.length });
        expect([...sequences, largeObjects.added, largeObjects.removed, largeObjects.changed]).toEqual([0, 0, 0]);
        expect(tables.some((table) => table.same === false)).toBe(false);
        expect(same).not.toBe(false);
      }),
    );
  });

  test('differ by the same the other way round, and every object is counted once', () => {
    fc.assert(
      fc.property(arbitraryInventory, arbitraryInventory, (one, other) => {
        const there = compareArchives(one, other);
        const back = compareArchives(other, one);
        expect(back.objects.added).toEqual(there.objects.removed);
        expect(back.objects.removed).toEqual(there.objects.added);
        expect(back.same).toBe(there.same);
        const { added, removed, changed, sameCount } = there.objects;
        expect(removed.length + changed.length + sameCount).toBe(one.definitions.length);
        expect(added.length + changed.length + sameCount).toBe(other.definitions.length);
      }),
    );
  });

  test('of objects with one name, those that are alike are no change', () => {
    const before = { ...EMPTY, definitions: [operator('int = int'), operator('text = text')] };
    const after = { ...EMPTY, definitions: [operator('text = text'), operator('int = int', 'dba'), operator('new')] };
    expect(compareArchives(before, after).objects).toEqual({
      added: [{ kind: 'OPERATOR', name: 'public.=' }],
      removed: [],
      changed: [{ kind: 'OPERATOR', name: 'public.=', aspects: ['owner'] }],
      sameCount: 1,
    });
  });

  test.each([
    ['rows that hash alike', { rows: 2, hash: 'a' }, { rows: 2, hash: 'a' }, true],
    ['as many others', { rows: 2, hash: 'a' }, { rows: 2, hash: 'b' }, false],
    ['more rows', { rows: 2, hash: undefined }, { rows: 3, hash: undefined }, false],
    ['no row', { rows: 0, hash: undefined }, { rows: 0, hash: 'a' }, true],
    ['as many rows of an archive without hashes', { rows: 2, hash: undefined }, { rows: 2, hash: 'a' }, undefined],
    ['rows that were left out', undefined, { rows: 2, hash: 'a' }, undefined],
    ['rows that were left out of both', undefined, undefined, undefined],
  ])('say of a table with %s what is known', (_name, one, other, same) => {
    const withTable = (table: typeof one): ArchiveInventory =>
      table === undefined
        ? { ...EMPTY, tablesWithoutRows: ['t'] }
        : { ...EMPTY, tables: [{ name: 't', rows: table.rows, hash: table.hash }] };
    const difference = compareArchives(withTable(one), withTable(other));
    expect(difference).toMatchObject({ same, tables: [{ table: 't', isBefore: true, isAfter: true, same }] });
  });

  test('whose rows are written in different encodings do not differ by their hashes', () => {
    const table = { ...EMPTY, tables: [{ name: 't', rows: 1, hash: 'a' }] };
    const other = { ...EMPTY, encoding: 'LATIN1', tables: [{ name: 't', rows: 1, hash: 'b' }] };
    expect(compareArchives(table, other).same).toBe(undefined);
  });
});
