import { describe, expect, test } from 'vitest';
import { directorySample } from '../../../test/support/toc-samples.ts';
import { readable, toByteString } from './byte-string.ts';
import { splitTables } from './split-tables.ts';
import type { DirectoryEntry, DirectoryToc } from './toc.ts';

const toc = directorySample(17);

function entry(of: DirectoryToc, description: string, tag: string): DirectoryEntry {
  const found = of.entries.find((each) => each.description === description && readable(each.tag) === tag);
  if (found === undefined) throw new Error(`there is no ${description} ${tag}`);
  return found;
}

function changed(of: DirectoryToc, dumpId: number, change: Partial<DirectoryEntry>): DirectoryToc {
  return { ...of, entries: of.entries.map((each) => (each.dumpId === dumpId ? { ...each, ...change } : each)) };
}

const table = entry(toc, 'TABLE', 'customer');
const data = entry(toc, 'TABLE DATA', 'customer');
const highest = Math.max(...toc.entries.flatMap((each) => [each.dumpId, ...each.dependencies]));
const pieceIds = [highest + 1, highest + 2, highest + 3];
const { toc: split, pieces } = splitTables(toc, new Map([[data.dumpId, { count: 3 }]]));

describe('a table in pieces', () => {
  test('has its pieces before its own entry, which stays as it was', () => {
    const at = toc.entries.indexOf(data);
    expect(pieces).toEqual(new Map([[data.dumpId, pieceIds.map((dumpId) => ({ dumpId, file: `${dumpId}.dat` }))]]));
    expect(split.entries.slice(at, at + 3)).toEqual(
      pieceIds.map((dumpId) => ({
        ...data,
        dumpId,
        file: `${dumpId}.dat`,
        dependencies: [table.dumpId, data.dumpId],
      })),
    );
    expect(split.entries[at + 3]).toEqual(data);
    expect(split.entries).toHaveLength(toc.entries.length + 3);
  });

  test('is waited for as a whole by what comes after the data and depends on it', () => {
    const waiting = [
      'CONSTRAINT customer customer_pkey',
      'TRIGGER customer touch',
      'FK CONSTRAINT order order_customer_id_fkey',
    ];
    const changedEntries = split.entries.filter((each) => {
      const before = toc.entries.find((old) => old.dumpId === each.dumpId);
      return before !== undefined && before !== each;
    });
    expect(changedEntries.map((each) => `${each.description} ${readable(each.tag)}`).sort()).toEqual(waiting.sort());
    for (const each of changedEntries) {
      const before = toc.entries.find((old) => old.dumpId === each.dumpId);
      expect(each).toEqual({ ...before, dependencies: [...(before?.dependencies ?? []), ...pieceIds] });
    }
  });

  test('has ids above that of a dependency that has no entry', () => {
    const named = changed(toc, table.dumpId, { dependencies: [50_000] });
    const above = splitTables(named, new Map([[data.dumpId, { count: 2 }]]));
    expect(above.pieces.get(data.dumpId)?.map((piece) => piece.dumpId)).toEqual([50_001, 50_002]);
  });

  test('is loaded piece after piece if it is chained', () => {
    const chained = splitTables(toc, new Map([[data.dumpId, { count: 3, isChained: true }]]));
    const [first, second, third] = pieceIds;
    const chain = chained.toc.entries.filter((each) => pieceIds.includes(each.dumpId));
    expect(chain.map((piece) => piece.dependencies)).toEqual([
      [table.dumpId, data.dumpId],
      [table.dumpId, data.dumpId, first],
      [table.dumpId, data.dumpId, second],
    ]);
    const fk = entry(chained.toc, 'FK CONSTRAINT', 'order order_customer_id_fkey');
    expect(fk.dependencies).toEqual(expect.arrayContaining([first, second, third]));
  });

  test('is waited for by data that depends on its data, whole or in pieces itself', () => {
    const order = entry(toc, 'TABLE DATA', 'order');
    const [orderTable = 0] = order.dependencies;
    const ordered = changed(toc, order.dumpId, { dependencies: [orderTable, data.dumpId] });
    const one = splitTables(ordered, new Map([[data.dumpId, { count: 3 }]]));
    expect(entry(one.toc, 'TABLE DATA', 'order').dependencies).toEqual([orderTable, data.dumpId, ...pieceIds]);
    const two = splitTables(
      ordered,
      new Map([
        [data.dumpId, { count: 3 }],
        [order.dumpId, { count: 1 }],
      ]),
    );
    const idsOfData = two.pieces.get(data.dumpId)?.map((piece) => piece.dumpId) ?? [];
    const [pieceOfOrder = 0] = two.pieces.get(order.dumpId)?.map((piece) => piece.dumpId) ?? [];
    const dependencies = new Map(two.toc.entries.map((each) => [each.dumpId, each.dependencies]));
    expect(dependencies.get(pieceOfOrder)).toEqual([orderTable, data.dumpId, order.dumpId, ...idsOfData]);
    expect(dependencies.get(order.dumpId)).toEqual([orderTable, data.dumpId, ...idsOfData]);
  });

  test('leaves everything else as it is', () => {
    expect(splitTables(toc, new Map()).toc).toEqual(toc);
    const { entries: _before, ...head } = toc;
    const { entries: _after, ...headAfter } = split;
    expect(headAfter).toEqual(head);
  });

  test.each([
    ['what is not there', toc, 999_999, 3],
    ['what is no data of a table', toc, table.dumpId, 3],
    ['an entry without a file', changed(toc, data.dumpId, { file: toByteString('') }), data.dumpId, 3],
    ['an entry without its table', changed(toc, data.dumpId, { dependencies: [] }), data.dumpId, 3],
    ['no piece at all', toc, data.dumpId, 0],
    ['more ids than there are', changed(toc, table.dumpId, { dependencies: [2 ** 31 - 3] }), data.dumpId, 3],
  ])('is not made of %s', (_what, of, dumpId, count) => {
    expect(() => splitTables(of, new Map([[dumpId, { count }]]))).toThrowError(
      expect.objectContaining({ code: 'internal' }),
    );
  });
});
