import { expect, test } from 'vitest';
import type { InventoryFile } from '../../formats/inventory.ts';
import { compareFiles } from './compare-files.ts';

function list(...files: readonly (readonly [path: string, bytes: number, checksum?: string])[]) {
  const named = files.map(([path, bytes, checksum]): InventoryFile => ({ path, bytes, checksum }));
  return { kind: 'files', files: named } as const;
}

test('files are counted by what became of them, and by the database that they are of', () => {
  const before = list(
    ['base/1/11', 10, 'a'],
    ['base/1/12', 10, 'a'],
    ['base/5/11', 10, 'a'],
    ['pg_tblspc/900/PG_18/5/7', 20, 'a'],
    ['postgresql.conf', 5, 'a'],
    ['pg_hba.conf', 5, 'a'],
    ['unsure', 5],
  );
  const after = list(
    ['base/1/11', 10, 'a'],
    ['base/1/12', 10, 'b'],
    ['base/6/11', 30, 'a'],
    ['pg_tblspc/900/PG_18/5/7', 25, 'a'],
    ['postgresql.conf', 5, 'b'],
    ['pg_hba.conf', 5, 'a'],
    ['unsure', 5],
  );
  expect(compareFiles(before, after)).toEqual({
    kind: 'files',
    before: { files: 7, bytes: 65 },
    after: { files: 7, bytes: 90 },
    added: 1,
    removed: 1,
    changed: 3,
    sameCount: 2,
    unknown: 1,
    folders: [
      { folder: '', bytesBefore: 15, bytesAfter: 15, differing: 1 },
      { folder: 'base/1', bytesBefore: 20, bytesAfter: 20, differing: 1 },
      { folder: 'base/5', bytesBefore: 10, bytesAfter: 0, differing: 1 },
      { folder: 'base/6', bytesBefore: 0, bytesAfter: 30, differing: 1 },
      { folder: 'pg_tblspc/900', bytesBefore: 20, bytesAfter: 25, differing: 1 },
    ],
    settings: [{ file: 'postgresql.conf', change: 'changed' }],
  });
});
