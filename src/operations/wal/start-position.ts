import { indexWal } from '../../formats/wal/archive-index.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import {
  parseSegmentName,
  segmentAt,
  segmentName,
  segmentStart,
  segmentStartAt,
  timelineDigits,
} from '../../postgres/wal/segment.ts';
import { endOf, type TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import { parseWalKey, type WalFolder, walPrefix, walSegmentPrefix } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectStore } from '../../storage/object-store.ts';

/** A place in the log from which WAL is wanted: the start of a segment. */
export interface StartPosition {
  readonly timeline: number;
  readonly lsn: Lsn;
  /** The segment is archived, and wanted again to be compared. */
  readonly isArchived?: true;
}

/** The archive of one server in one store. */
export interface ArchivePlace {
  readonly store: ObjectStore;
  readonly folder: WalFolder;
  readonly segmentBytes: number;
}

/**
 * The first segment that is not archived, from the one that holds the position on, along the server's own history. The
 * segment in which a timeline ended is the next one's, which repeats what this one had in it.
 */
export async function firstMissing(
  place: ArchivePlace,
  history: TimelineHistory,
  from: Lsn,
  options: CallOptions,
): Promise<StartPosition> {
  const { segmentBytes } = place;
  let lsn = segmentStartAt(from, segmentBytes);
  for (const { timeline, end } of history.ancestors) {
    const lastSegment = segmentStartAt(end, segmentBytes);
    if (lsn >= lastSegment) continue;
    const missing = await firstMissingOf(place, timeline, lsn, options);
    if (missing < lastSegment) return { timeline, lsn: missing };
    lsn = lastSegment;
  }
  const { timeline } = history;
  return { timeline, lsn: await firstMissingOf(place, timeline, lsn, options) };
}

/** The timeline under which a server has the segment that starts there: the newest one that has begun by its end. */
export function segmentTimeline({ timeline, ancestors }: TimelineHistory, start: Lsn, segmentBytes: number): number {
  return ancestors.find(({ end }) => start < segmentStartAt(end, segmentBytes))?.timeline ?? timeline;
}

async function firstMissingOf(
  { store, folder, segmentBytes }: ArchivePlace,
  timeline: number,
  from: Lsn,
  options: CallOptions,
): Promise<Lsn> {
  let expected = segmentAt(timeline, from, segmentBytes);
  const before = { timeline, number: expected.number - 1n };
  const prefix = walPrefix(folder, timelineDigits(timeline));
  // Behind all objects of the segment before, whatever their endings.
  const start =
    expected.number === 0n ? {} : { startAfter: `${walSegmentPrefix(folder, segmentName(before, segmentBytes))}~` };
  for await (const { key } of store.list(prefix, { ...options, ...start })) {
    const wal = parseWalKey(key);
    if (wal?.kind !== 'segment') continue;
    const found = parseSegmentName(wal.name, segmentBytes);
    if (found === undefined || found.number < expected.number) continue;
    if (found.number > expected.number) break;
    expected = { timeline, number: found.number + 1n };
  }
  return segmentStart(expected, segmentBytes);
}

/**
 * Where whole segments end that are archived along the server's history: there, or in that segment, WAL goes on. Undefined if
 * nothing is archived. `hint` is a place that is known to be archived, so that not everything is listed.
 */
export async function archiveEnd(
  place: ArchivePlace,
  history: TimelineHistory,
  hint: StartPosition | undefined,
  options: CallOptions,
): Promise<Lsn | undefined> {
  const { segmentBytes } = place;
  const known = hint && withinHistory(history, hint);
  if (known !== undefined && known >= BigInt(segmentBytes)) {
    // The segment of the position itself may not be whole; if the one before is there, the hint is good.
    const before = segmentStartAt(known, segmentBytes) - BigInt(segmentBytes);
    const { lsn } = await firstMissing(place, history, before, options);
    if (lsn > before) return lsn;
  }
  const { ranges } = await indexWal(place.store, place.folder, segmentBytes, options);
  const ends = [...ranges.values()].flatMap((all) => {
    const last = all.at(-1);
    const end = last && withinHistory(history, { timeline: last.timeline, lsn: last.wholeTo });
    return end === undefined ? [] : [end];
  });
  return ends.reduce<Lsn | undefined>(
    (newest, end) => (newest === undefined || end > newest ? end : newest),
    undefined,
  );
}

/**
 * A position of a timeline as one of the history: what was archived of an ancestor after it was left is nothing to go on
 * from. Undefined if the timeline is none of the history's.
 */
function withinHistory(history: TimelineHistory, { timeline, lsn }: StartPosition): Lsn | undefined {
  if (timeline === history.timeline) return lsn;
  const end = endOf(history, timeline);
  if (end === undefined) return undefined;
  return lsn > end ? end : lsn;
}
