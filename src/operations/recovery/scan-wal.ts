import type { ArchivePath } from '../../formats/wal/archive-path.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import type { Landmark } from '../../postgres/wal/record.ts';
import { type RecordPlace, RecordWalker } from '../../postgres/wal/record-walker.ts';
import { segmentAt, segmentStart } from '../../postgres/wal/segment.ts';

/**
 * Reads what is archived from the start of the segment that holds a position up to another one, and follows its records.
 * `visit` gets the landmarks in their order, until it says true: then the rest is left. Resolves with the last whole record.
 * Errors: `corrupt`, naming the object; `wal-gap`, `wrong-key`, `key-missing`, `store-…`.
 */
export async function scanWal(
  path: ArchivePath,
  { from, to }: { readonly from: Lsn; readonly to: Lsn },
  visit: (landmark: Landmark) => boolean | void,
): Promise<RecordPlace | undefined> {
  const { segmentBytes } = path;
  const first = segmentAt(1, from, segmentBytes);
  const walker = new RecordWalker(segmentStart(first, segmentBytes), segmentBytes);
  for await (const block of path.read(first.number, to)) {
    if (walker.push(block).some((landmark) => visit(landmark) === true)) return walker.last;
  }
  walker.finish().some((landmark) => visit(landmark) === true);
  return walker.last;
}

/** The last record that is archived whole before a position; it is not looked for before the other one. */
export async function lastRecord(
  path: ArchivePath,
  { from, to }: { readonly from: Lsn; readonly to: Lsn },
): Promise<RecordPlace | undefined> {
  const size = BigInt(path.segmentBytes);
  // A record may fill whole segments.
  for (let start = segmentStart(segmentAt(1, to - 1n, path.segmentBytes), path.segmentBytes); ; start -= size) {
    const last = await scanWal(path, { from: start, to }, () => false);
    if (last !== undefined || start <= from) return last;
  }
}
