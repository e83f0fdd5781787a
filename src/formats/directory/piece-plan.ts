import { assert, PgarkError } from '../../common/errors.ts';
import type { CompressionAlgorithm } from '../../common/compression-levels.ts';
import { readable } from '../../postgres/toc/byte-string.ts';
import { readCopyStatement } from '../../postgres/toc/copy-statement.ts';
import { splitTables, type TablePieces } from '../../postgres/toc/split-tables.ts';
import { toDirectory } from '../../postgres/toc/to-directory.ts';
import {
  type CustomToc,
  type DirectoryToc,
  LARGE_OBJECTS,
  TABLE_DATA,
  TABLE_DATA_END,
  type TocEntry,
} from '../../postgres/toc/toc.ts';
import type { TableFacts } from './tables.ts';

/** Tid range scans came with 14; before, a condition on `ctid` reads the whole table. */
const RANGES_SINCE_MAJOR = 14;
const LARGE_OBJECT = 'BLOB';
const LARGE_OBJECT_METADATA = 'BLOB METADATA';
/** From archives of this version on there may be several entries for the content of large objects. */
const SEVERAL_BLOBS_SINCE = 16;
/** Large objects that one task reads, one after the other. */
const LARGE_OBJECTS_PER_TASK = 100;

/** All rows of a table, or those of some of its pages: a plain description, which whoever reads it needs nothing but. */
export interface TablePiece {
  readonly kind: 'table';
  /** Name of its file, without what compression and encryption add. */
  readonly file: string;
  /** Dump id of the table's data entry in pg_dump's own TOC. */
  readonly entry: number;
  readonly oid: number;
  /** As SQL; empty for a table without columns. */
  readonly columns: string;
  /** `WHERE …`, or empty. */
  readonly condition: string;
  /** Heap pages: the first one, and the one after the last, which a table's last piece does not have. */
  readonly pages?: { readonly from: number; readonly to?: number };
  /** About so many bytes are read. */
  readonly bytes: number;
}

/** Some large objects, each with a file of its own. */
export interface LargeObjectPiece {
  readonly kind: 'large-objects';
  readonly entry: number;
  readonly oids: readonly string[];
  readonly bytes: number;
}

export type Piece = TablePiece | LargeObjectPiece;

/** A file of which everything is known before anything is read. */
interface SmallFile {
  readonly file: string;
  readonly role: 'data' | 'large-objects';
  readonly content: string;
}

export interface DumpPlan {
  /** The largest first. */
  readonly pieces: readonly Piece[];
  /** Of tables whose rows lie in the files of pieces, and the lists of large objects. */
  readonly smallFiles: readonly SmallFile[];
  /** What goes with these files. */
  readonly toc: DirectoryToc;
  /** Oids of tables of several pieces. */
  readonly cutTables: readonly number[];
  /** All tables with rows to dump, in the order of the TOC. */
  readonly tables: readonly { readonly entry: number; readonly schema: string; readonly name: string }[];
}

export interface PlanRequest {
  readonly toc: CustomToc;
  /** By their oids. */
  readonly tables: ReadonlyMap<number, TableFacts>;
  readonly serverMajor: number;
  /** About how much of a table one piece has. */
  readonly pieceBytes: number;
  /** Of all large objects together, about. */
  readonly largeObjectBytes: number;
  readonly compression: CompressionAlgorithm;
}

/** What is read of a table: pages, the first one and the one after the last. */
type Range = NonNullable<TablePiece['pages']>;

/** What is read for each entry with data, and where it goes. Error: `archive-unsupported` for data of an unknown kind. */
export function planDump(request: PlanRequest): DumpPlan {
  const withData = request.toc.entries.filter((entry) => entry.hasData);
  const cuts = new Map<number, readonly Range[]>();
  const cut = new Map<number, TablePieces>();
  for (const entry of withData) {
    if (entry.description !== TABLE_DATA) continue;
    const facts = factsOf(entry, request.tables);
    const ranges = rangesOf(facts, request);
    if (ranges.length < 2) continue;
    cuts.set(entry.dumpId, ranges);
    cut.set(entry.dumpId, { count: ranges.length, isChained: facts.hasTriggers });
  }
  const split = splitTables(toDirectory(request.toc, request.compression), cut);
  const fileOf = new Map(split.toc.entries.map(({ dumpId, file }) => [dumpId, readable(file)]));

  const pieces: Piece[] = [];
  const smallFiles: SmallFile[] = [];
  const cutTables: number[] = [];
  const tables: { entry: number; schema: string; name: string }[] = [];
  const largeObjects = new Map<number, readonly string[]>();
  for (const entry of withData) {
    const { dumpId, description } = entry;
    const file = fileOf.get(dumpId) ?? '';
    if (description === TABLE_DATA) {
      const { oid, sql, columns, condition, bytes, schema, name } = factsOf(entry, request.tables);
      tables.push({ entry: dumpId, schema, name });
      const base = { kind: 'table', entry: dumpId, oid, columns, condition } as const;
      const ranges = cuts.get(dumpId);
      if (ranges === undefined) {
        pieces.push({ ...base, file, bytes });
        continue;
      }
      const files = split.pieces.get(dumpId) ?? [];
      assert(files.length === ranges.length, `each piece of ${sql} has its file`);
      for (const [index, pages] of ranges.entries()) {
        pieces.push({ ...base, file: files[index]?.file ?? '', pages, bytes: bytes / ranges.length });
      }
      cutTables.push(oid);
      smallFiles.push({ file, role: 'data', content: TABLE_DATA_END });
    } else if (description === LARGE_OBJECTS) {
      const oids = largeObjectsOf(entry, request.toc);
      largeObjects.set(dumpId, oids);
      const content = oids.map((oid) => `${oid} ${largeObjectFile(oid)}\n`).join('');
      smallFiles.push({ file, role: 'large-objects', content });
    } else {
      throw new PgarkError(
        'archive-unsupported',
        `pg_dump writes data of a kind that pgark does not know: ${readable(description)} ${readable(entry.tag)}`,
        { hint: 'back up with format plain' },
      );
    }
  }
  pieces.push(...largeObjectPieces(largeObjects, request.largeObjectBytes));
  pieces.sort((a, b) => b.bytes - a.bytes);
  return { pieces, smallFiles, toc: split.toc, cutTables, tables };
}

/** Without endings; as pg_dump calls it. */
export function largeObjectFile(oid: string): string {
  return `blob_${oid}.dat`;
}

function factsOf(entry: TocEntry, tables: ReadonlyMap<number, TableFacts>): TableFacts {
  const facts = tables.get(entry.oid);
  if (facts === undefined) {
    throw new PgarkError(
      'dump-failed',
      `pg_dump names a table that was not locked: ${readable(entry.tag)} (oid ${entry.oid})`,
      { hint: 'run the backup again; if it fails again, back up with format plain' },
    );
  }
  const { columns } = readCopyStatement(entry);
  const names = columns.match(/"(?:[^"]|"")*"|[^", ]+/g)?.length ?? 0;
  assert(
    names === facts.columnCount,
    `the COPY statement of ${facts.sql} has ${names} columns, the catalog ${facts.columnCount}`,
  );
  return facts;
}

/** One range for a table that is read as a whole. */
function rangesOf(
  { isHeap, condition, bytes, pages }: TableFacts,
  { serverMajor, pieceBytes }: PlanRequest,
): readonly Range[] {
  const isDivisible = serverMajor >= RANGES_SINCE_MAJOR && isHeap && condition === '';
  const count = isDivisible ? Math.min(pages, Math.ceil(bytes / pieceBytes)) : 1;
  if (count <= 1) return [{ from: 0 }];
  const startOf = (index: number): number => Math.floor((pages * index) / count);
  return Array.from({ length: count }, (_, index) => ({
    from: startOf(index),
    // What was added since the snapshot lies behind, and so may rows that the snapshot sees: the last range is open.
    ...(index + 1 === count ? {} : { to: startOf(index + 1) }),
  }));
}

/** Oids as text. Before 17 one entry has all; from then on each has those whose metadata it depends on. */
function largeObjectsOf(entry: TocEntry, toc: CustomToc): readonly string[] {
  if (toc.version < SEVERAL_BLOBS_SINCE) {
    return toc.entries.flatMap(({ description, tag }) => (description === LARGE_OBJECT ? [oidOf(tag)] : []));
  }
  const metadata = toc.entries.find(
    ({ dumpId, description }) => description === LARGE_OBJECT_METADATA && entry.dependencies.includes(dumpId),
  );
  assert(metadata !== undefined, `the entry ${entry.dumpId} depends on the metadata of its large objects`);
  return (metadata.definition ?? '').split('\n').flatMap((line) => (line === '' ? [] : [oidOf(line)]));
}

function oidOf(text: string): string {
  assert(/^\d+$/.test(text), 'a large object is named by its oid');
  return text;
}

function largeObjectPieces(
  entries: ReadonlyMap<number, readonly string[]>,
  bytesInAll: number,
): readonly LargeObjectPiece[] {
  const number = [...entries.values()].reduce((sum, oids) => sum + oids.length, 0);
  const pieces: LargeObjectPiece[] = [];
  for (const [entry, oids] of entries) {
    for (let at = 0; at < oids.length; at += LARGE_OBJECTS_PER_TASK) {
      const some = oids.slice(at, at + LARGE_OBJECTS_PER_TASK);
      pieces.push({ kind: 'large-objects', entry, oids: some, bytes: (bytesInAll * some.length) / number });
    }
  }
  return pieces;
}
