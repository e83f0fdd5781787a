import type { ByteString } from './byte-string.ts';

/**
 * Table of contents of a pg_dump archive, as it is written: nothing is interpreted that a round trip would lose. Sources
 * of the format: `WriteHead`, `ReadHead`, `WriteToc` and `ReadToc` in PostgreSQL's pg_backup_archiver.c; `_WriteExtraToc`
 * in pg_backup_custom.c and pg_backup_directory.c for what follows each entry.
 */
export type Toc = CustomToc | DirectoryToc;

/** At the start of an archive in custom format, which is one file or stream; the data follows. */
export interface CustomToc extends TocHead {
  readonly format: 'custom';
  readonly entries: readonly CustomEntry[];
}

/** The file `toc.dat` of an archive in directory format. */
export interface DirectoryToc extends TocHead {
  readonly format: 'directory';
  readonly entries: readonly DirectoryEntry[];
}

/** Minor number of the archive's version 1.N: 14 is written by pg_dump 12 to 15, 15 by 16, 16 by 17 and 18. */
export type TocVersion = 14 | 15 | 16;

export interface TocHead {
  readonly version: TocVersion;
  /** Bytes of a position in the file; `sizeof(pgoff_t)` of pg_dump. */
  readonly offsetBytes: 4 | 8;
  /** Before 1.15 a level (0 none, -1 gzip’s default); from then on an algorithm, see `COMPRESSION_ALGORITHMS`. */
  readonly compression: number;
  readonly createdAt: TocTime;
  readonly database: ByteString | null;
  /** Of the server that was dumped. */
  readonly serverVersion: ByteString | null;
  /** Of the pg_dump that wrote it. */
  readonly dumpVersion: ByteString | null;
}

/** `struct tm` in the time zone of pg_dump: months from 0, years from 1900. */
export interface TocTime {
  readonly second: number;
  readonly minute: number;
  readonly hour: number;
  readonly day: number;
  readonly month: number;
  readonly year: number;
  readonly isDst: number;
}

/** `teSection` of pg_backup.h. */
export const SECTION = { none: 1, preData: 2, data: 3, postData: 4 } as const;
type Section = (typeof SECTION)[keyof typeof SECTION];

/** `pg_compress_algorithm` of common/compression.h, as archives from 1.15 on name it. */
export const COMPRESSION_ALGORITHMS = { none: 0, gzip: 1, lz4: 2, zstd: 3 } as const;
export type CompressionName = keyof typeof COMPRESSION_ALGORITHMS;

export interface TocEntry {
  /** 1 or more, and of one entry only in what pg_dump writes. */
  readonly dumpId: number;
  /** Whether there is data for it besides what stands here. */
  readonly hasData: boolean;
  readonly tableOid: number;
  readonly oid: number;
  /** Name of the object. */
  readonly tag: ByteString;
  /** Kind of object: `TABLE`, `TABLE DATA`, `FK CONSTRAINT`. */
  readonly description: ByteString;
  readonly section: Section;
  /** What creates it. */
  readonly definition: ByteString | null;
  readonly dropStatement: ByteString | null;
  readonly copyStatement: ByteString | null;
  readonly namespace: ByteString | null;
  readonly tablespace: ByteString | null;
  readonly tableAccessMethod: ByteString | null;
  /** Code of the character in `pg_class.relkind`, 0 for no relation; undefined before 1.16. */
  readonly relkind: number | undefined;
  readonly owner: ByteString | null;
  readonly withOids: boolean;
  /** Dump ids; they need not be of entries that are there. */
  readonly dependencies: readonly number[];
}

/** `K_OFFSET_…` of pg_backup_archiver.h: not known (written to a pipe), known, there is no data. */
type OffsetState = 1 | 2 | 3;

export interface CustomEntry extends TocEntry {
  readonly offsetState: OffsetState;
  /** Where its data begins, as far as `offsetState` says that this is known. */
  readonly offset: bigint;
}

export interface DirectoryEntry extends TocEntry {
  /** Name of the file that holds its data, without what compression adds to it; empty for none. */
  readonly file: ByteString;
}

export const MAGIC = 'PGDMP';
/** `archCustom`; and `archTar`, which directories carry too, since a tar archive holds the same files. */
export const FORMAT_BYTES = { custom: 1, directory: 3 } as const;
/** `sizeof(int)` of pg_dump. */
export const INTEGER_BYTES = 4;
export const DEPENDENCY_MAX = 2 ** 31 - 1;

/** What ends the data of each table in an archive of directory format; all that the data of an empty one holds. */
export const TABLE_DATA_END = '\\.\n\n\n';
/** Descriptions of the entries that have data. */
export const TABLE_DATA = 'TABLE DATA';
export const LARGE_OBJECTS = 'BLOBS';
