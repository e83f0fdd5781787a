import type { ArchivePath } from '../../formats/wal/archive-path.ts';
import type { Stretch } from '../../formats/wal/recovery-path.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import type { Landmark } from '../../postgres/wal/record.ts';
import { segmentAt, segmentStart } from '../../postgres/wal/segment.ts';
import type { ServerTime } from '../../postgres/wal/server-time.ts';
import { scanWal } from './scan-wal.ts';

/** Two servers of one archive may be apart by this much in what time they say it is, in microseconds. */
const CLOCKS_APART_US = 60_000_000n;

/** Where a moment lies in the log. */
export interface LocatedTime {
  /** The first transaction that ended after it; undefined where none is archived. */
  readonly next: (Landmark & { readonly kind: 'commit' | 'abort' }) | undefined;
  /** Whether one that was looked at ended before it, or at it. */
  readonly hasEarlier: boolean;
}

/**
 * Finds the first end of a transaction after a moment in a stretch, as a server does that recovers to a time. Only what may hold
 * it is read: a segment says until when it was written.
 */
export async function locateTime(path: ArchivePath, { from, to }: Stretch, time: ServerTime): Promise<LocatedTime> {
  const { segmentBytes } = path;
  const firstSegment = segmentAt(1, from, segmentBytes).number;
  let low = firstSegment;
  let high = segmentAt(1, to - 1n, segmentBytes).number;
  while (low < high) {
    const middle = (low + high) / 2n;
    const facts = await path.factsOf(middle);
    if (facts !== undefined && facts.until < time - CLOCKS_APART_US) low = middle + 1n;
    else high = middle;
  }
  const start = segmentStart({ number: low }, segmentBytes);
  let next: LocatedTime['next'];
  let hasEarlier = low > firstSegment;
  await scanWal(path, { from: start, to }, (landmark) => {
    if (landmark.kind !== 'commit' && landmark.kind !== 'abort') return false;
    if (landmark.time > time) {
      next = landmark;
      return true;
    }
    hasEarlier ||= landmark.lsn >= from;
    return false;
  });
  return { next, hasEarlier };
}

/** The last end of a transaction before a position, looked for from the end, and not before the other position. */
export async function lastEnded(
  path: ArchivePath,
  { from, to }: Stretch,
): Promise<{ lsn: Lsn; time: ServerTime } | undefined> {
  const size = BigInt(path.segmentBytes);
  for (let start = segmentStart(segmentAt(1, to - 1n, path.segmentBytes), path.segmentBytes); ; start -= size) {
    let last: { lsn: Lsn; time: ServerTime } | undefined;
    // A record may begin in one segment and end in the next.
    const end = start + 2n * size;
    await scanWal(path, { from: start, to: end < to ? end : to }, (landmark) => {
      if (landmark.kind === 'commit' || landmark.kind === 'abort') last = landmark;
    });
    if (last !== undefined || start <= from) return last;
  }
}
