import type { TimelinePart } from '../../formats/wal/recovery-path.ts';
import { segmentStartAt } from '../../postgres/wal/segment.ts';
import type { BackedUpPart } from './physical-backups.ts';

/**
 * Whether every segment of a part of the log is one that a base backup needs. Such a part may have come with the base backups
 * alone, also when they were copied months later: it says nothing of whether WAL is archived beside them.
 */
export function isOfBasesAlone(
  { timeline, from, to }: TimelinePart,
  bases: readonly BackedUpPart[],
  segmentBytes: number,
): boolean {
  let reached = segmentStartAt(from, segmentBytes);
  const ascending = bases
    .filter((base) => base.timeline === timeline)
    .toSorted((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0));
  for (const base of ascending) {
    if (segmentStartAt(base.from, segmentBytes) > reached) break;
    const end = segmentStartAt(base.to - 1n, segmentBytes) + BigInt(segmentBytes);
    if (end > reached) reached = end;
  }
  return reached >= to;
}

/** A part of one timeline's log, and when the last of it was stored. */
export interface StoredPart extends TimelinePart {
  readonly lastStored: Date;
}

/** When the last of it came, as far as the archive tells. A copy of a base backup, which is stored later, does not make it newer. */
export function lastCame(part: StoredPart, bases: readonly BackedUpPart[], segmentBytes: number): Date {
  if (!isOfBasesAlone(part, bases, segmentBytes)) return part.lastStored;
  const ended = bases
    .filter(({ timeline, from, to }) => timeline === part.timeline && from < part.to && to > part.from)
    .map(({ manifest }) => Date.parse(manifest.endedAt));
  return new Date(Math.min(part.lastStored.getTime(), Math.max(...ended)));
}
