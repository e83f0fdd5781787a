import type { Lsn } from '../../postgres/wal/lsn.ts';
import { segmentStartAt } from '../../postgres/wal/segment.ts';
import { type TimelineHistory, timelineOf } from '../../postgres/wal/timeline-history.ts';
import type { WalIndex } from './archive-index.ts';

/** A stretch of the log, which may go from one timeline into the next. */
export interface Stretch {
  readonly from: Lsn;
  readonly to: Lsn;
}

/** A part of one timeline's log, which holds something. */
export interface TimelinePart extends Stretch {
  readonly timeline: number;
}

/** Whether all of it is on the way towards a timeline: what began before a branch that was left and ended behind that is not. */
export function isOnWay(history: TimelineHistory, { timeline, from, to }: TimelinePart): boolean {
  return [from, to - 1n].every((lsn) => timelineOf(history, lsn) === timeline);
}

/**
 * What a recovery towards a timeline finds archived, as stretches without a gap, ascending. A timeline counts up to where it
 * ended; the next one begins with the segment in which that was, which repeats what the older one had in it.
 */
export function stretchesTowards(index: WalIndex, history: TimelineHistory): readonly Stretch[] {
  const { segmentBytes } = index;
  const parts: Stretch[] = [];
  let begin: Lsn = 0n;
  for (const { timeline, end } of [...history.ancestors, { timeline: history.timeline, end: undefined }]) {
    for (const range of index.ranges.get(timeline) ?? []) {
      const from = range.from > begin ? range.from : begin;
      const to = end !== undefined && range.to > end ? end : range.to;
      if (from < to) parts.push({ from, to });
    }
    if (end !== undefined) begin = segmentStartAt(end, segmentBytes);
  }
  return joined(parts);
}

/** What lies between stretches. */
export function gapsBetween(stretches: readonly Stretch[]): readonly Stretch[] {
  return stretches.slice(1).map(({ from }, index) => ({ from: stretches[index]?.to ?? from, to: from }));
}

/**
 * Whether a stretch holds all that is needed to read a part of the log: also its segment's beginning, without which deltas behind
 * that are of no use.
 */
export function holdsAll(stretch: Stretch, { from, to }: Stretch, segmentBytes: number): boolean {
  return stretch.from <= segmentStartAt(from, segmentBytes) && to <= stretch.to;
}

/** Whether all of the log from one position to another is archived on the way towards a timeline. */
export function isArchived(index: WalIndex, history: TimelineHistory, { from, to }: Stretch): boolean {
  return stretchesTowards(index, history).some((stretch) => holdsAll(stretch, { from, to }, index.segmentBytes));
}

function joined(parts: readonly Stretch[]): readonly Stretch[] {
  const result: Stretch[] = [];
  for (const part of parts.toSorted((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0))) {
    const last = result.at(-1);
    if (last === undefined || part.from > last.to) result.push(part);
    else if (part.to > last.to) result[result.length - 1] = { from: last.from, to: part.to };
  }
  return result;
}
