import { toByteString } from './byte-string.ts';
import {
  COMPRESSION_ALGORITHMS,
  type CompressionName,
  type CustomToc,
  type DirectoryEntry,
  type DirectoryToc,
  LARGE_OBJECTS,
  type TocEntry,
  type TocVersion,
} from './toc.ts';

/**
 * The table of contents that pg_dump would have written of the same database in directory format: each entry that has
 * data gets the name of its file, all else is as it was. `compression` is that of the data files; `toc.dat` itself has
 * none.
 */
export function toDirectory(toc: CustomToc, compression: CompressionName): DirectoryToc {
  return {
    ...toc,
    format: 'directory',
    compression: compressionField(compression, toc.version),
    entries: toc.entries.map((entry): DirectoryEntry => {
      const { offsetState: _state, offset: _offset, ...kept } = entry;
      return { ...kept, file: toByteString(fileOf(entry, toc.version)) };
    }),
  };
}

/** Of the same files, but that their data is compressed otherwise. */
export function withCompression(toc: DirectoryToc, compression: CompressionName): DirectoryToc {
  return { ...toc, compression: compressionField(compression, toc.version) };
}

/** Of the data of one table. */
export function tableDataFile(dumpId: number): string {
  return `${dumpId}.dat`;
}

/** As `_ArchiveEntry` in PostgreSQL's pg_backup_directory.c names them. */
function fileOf(entry: TocEntry, version: TocVersion): string {
  if (!entry.hasData) return '';
  if (entry.description !== LARGE_OBJECTS) return tableDataFile(entry.dumpId);
  // A list of large objects, which have a file each; since 1.16 there may be several lists.
  return version >= 16 ? `blobs_${entry.dumpId}.toc` : 'blobs.toc';
}

const GZIP_DEFAULT_LEVEL = -1;

/**
 * What pg_restore looks for when it measures files, to begin with the largest. Before 1.15 it knows gzip alone: files
 * compressed otherwise are decompressed before it sees them.
 */
function compressionField(compression: CompressionName, version: TocVersion): number {
  if (version >= 15) return COMPRESSION_ALGORITHMS[compression];
  return compression === 'gzip' ? GZIP_DEFAULT_LEVEL : 0;
}
