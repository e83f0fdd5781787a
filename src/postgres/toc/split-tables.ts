import { assert } from '../../common/errors.ts';
import { readable, toByteString } from './byte-string.ts';
import { tableDataFile } from './to-directory.ts';
import { DEPENDENCY_MAX, type DirectoryEntry, type DirectoryToc, SECTION, TABLE_DATA } from './toc.ts';

/** How the data of one table is cut. */
export interface TablePieces {
  /** How many pieces; one or more. */
  readonly count: number;
  /**
   * Loads one piece after the other, also in a parallel restore; for tables with triggers of their own, which sessions
   * that load the same table would switch off and on under each other.
   */
  readonly isChained?: boolean;
}

interface TablePiece {
  readonly dumpId: number;
  /** Without what compression adds to the name. */
  readonly file: string;
}

interface SplitToc {
  readonly toc: DirectoryToc;
  /** Dump id of each entry that was cut → its pieces, in order. */
  readonly pieces: ReadonlyMap<number, readonly TablePiece[]>;
}

/**
 * Cuts tables into pieces that pg_restore loads side by side, in any of its modes. `tables` has the dump id of each
 * `TABLE DATA` entry to be cut. Each piece has a file of its own, named as pg_dump names files, of rows and
 * `TABLE_DATA_END`; the file of the entry that was cut then has to hold `TABLE_DATA_END` and nothing else.
 *
 * The pieces are copies of the entry. What pg_restore (pg_backup_archiver.c) makes of them decides about their form:
 * - A parallel restore truncates a table that it has created before it loads the *last* `TABLE DATA` entry of that table,
 *   and lets whatever depends on the table wait for this one alone. So the entry stays, behind its pieces, and they
 *   depend on it: it is loaded first and holds no rows. In any other order rows are lost, without an error.
 * - The first dependency says which table it is, so it stays the first.
 * - What comes after the data and depends on the table has to wait for each piece as well.
 */
export function splitTables(toc: DirectoryToc, tables: ReadonlyMap<number, TablePieces>): SplitToc {
  const nextId = idsAbove(toc);
  const pieces = new Map<number, readonly TablePiece[]>();
  /** By the entry that was cut, and by its table: what is to be waited for. */
  const idsByData = new Map<number, readonly number[]>();
  const idsByTable = new Map<number, readonly number[]>();
  const cutFrom = new Map<number, number>();
  const entries = toc.entries.flatMap((entry) => {
    const table = tables.get(entry.dumpId);
    if (table === undefined) return [entry];
    assert(!pieces.has(entry.dumpId), `only one entry has the id ${entry.dumpId}`);
    assertCuttable(entry, table);
    const cut = Array.from({ length: table.count }, () => nextPiece(nextId()));
    const ids = cut.map((piece) => piece.dumpId);
    for (const id of ids) cutFrom.set(id, entry.dumpId);
    pieces.set(entry.dumpId, cut);
    idsByData.set(entry.dumpId, ids);
    const [tableId = 0] = entry.dependencies;
    idsByTable.set(tableId, ids);
    return [...entriesOf(cut, entry, table.isChained === true), entry];
  });
  assert(pieces.size === tables.size, 'every table that is to be cut is there');
  const waitForPieces = (entry: DirectoryEntry): DirectoryEntry => {
    const added = entry.dependencies.flatMap((dumpId) => {
      // A piece depends on the entry that it was cut from, and not on its siblings.
      const ofData = cutFrom.get(entry.dumpId) === dumpId ? [] : (idsByData.get(dumpId) ?? []);
      const ofTable = entry.section === SECTION.postData ? (idsByTable.get(dumpId) ?? []) : [];
      return [...ofData, ...ofTable];
    });
    return added.length === 0 ? entry : { ...entry, dependencies: [...new Set([...entry.dependencies, ...added])] };
  };
  return { toc: { ...toc, entries: entries.map(waitForPieces) }, pieces };
}

function assertCuttable(entry: DirectoryEntry, table: TablePieces): void {
  const what = `entry ${entry.dumpId} (${readable(entry.description)})`;
  assert(entry.description === TABLE_DATA && entry.hasData && entry.file !== '', `${what} has the data of a table`);
  assert(entry.dependencies.length > 0, `${what} depends on its table`);
  assert(Number.isSafeInteger(table.count) && table.count > 0, `${what} is cut into one piece at least`);
}

function nextPiece(dumpId: number): TablePiece {
  return { dumpId, file: tableDataFile(dumpId) };
}

function entriesOf(pieces: readonly TablePiece[], whole: DirectoryEntry, isChained: boolean): DirectoryEntry[] {
  return pieces.map(({ dumpId, file }, index) => {
    const before = isChained ? pieces[index - 1] : undefined;
    return {
      ...whole,
      dumpId,
      file: toByteString(file),
      dependencies: [...whole.dependencies, whole.dumpId, ...(before === undefined ? [] : [before.dumpId])],
    };
  });
}

/**
 * Ids that nothing has or names: dependencies name objects too that have no entry, and an entry with the id of such a
 * one would be waited for by what has nothing to do with it.
 */
function idsAbove(toc: DirectoryToc): () => number {
  let highest = 0;
  for (const entry of toc.entries) {
    highest = Math.max(highest, entry.dumpId);
    for (const dumpId of entry.dependencies) highest = Math.max(highest, dumpId);
  }
  return () => {
    highest += 1;
    assert(highest <= DEPENDENCY_MAX, 'there are ids left for the pieces of tables');
    return highest;
  };
}
