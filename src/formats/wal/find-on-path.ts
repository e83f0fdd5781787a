import type { ByteStream } from '../../common/bytes.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import { segmentEnd, segmentName, segmentStart } from '../../postgres/wal/segment.ts';
import type { TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import type { WalFolder } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectStore } from '../../storage/object-store.ts';
import { chainOfDeltas } from './archive-index.ts';
import { findSegmentObjects, readParts, readWhole, type SegmentPart } from './read-segment.ts';
import type { StoredPiece } from './read-piece.ts';

/** What is archived of a segment that goes furthest on the way towards a timeline. */
export interface FoundOnPath {
  /** Of the segment, with the timeline that it is archived of. */
  readonly name: string;
  readonly whole: StoredPiece | undefined;
  /** Without a gap from the segment's start on. Empty where it is whole. */
  readonly chain: readonly SegmentPart[];
  readonly start: Lsn;
  /** So many of its first bytes are on the way: what a timeline wrote behind where it was left is not. */
  readonly bytes: number;
  /** Where the last delta on the way ends: behind those bytes where one in between is missing. */
  readonly furthest: number;
}

/**
 * Finds a segment's WAL. The one in which a timeline begins repeats what the older one had in it, byte for byte; of it the older
 * timeline may have more archived, up to where it was left. Undefined where none of its first bytes are there.
 */
export async function findOnPath(
  {
    store,
    folder,
    segmentBytes,
  }: { readonly store: ObjectStore; readonly folder: WalFolder; readonly segmentBytes: number },
  { timeline, ancestors }: TimelineHistory,
  number: bigint,
  options: CallOptions,
): Promise<FoundOnPath | undefined> {
  const [start, end] = [segmentStart({ number }, segmentBytes), segmentEnd({ number }, segmentBytes)];
  const lines = [...ancestors, { timeline, end: undefined }].map((line, index) => ({
    timeline: line.timeline,
    begin: ancestors[index - 1]?.end ?? 0n,
    end: line.end === undefined || line.end > end ? end : line.end,
  }));
  let most: Omit<FoundOnPath, 'furthest'> | undefined;
  let furthest = 0;
  for (const line of lines.reverse()) {
    const reached = start + BigInt(most?.bytes ?? 0);
    // It had not begun by the segment's end, or adds nothing before it was left.
    if (line.begin >= end || line.end <= reached) continue;
    const name = segmentName({ timeline: line.timeline, number }, segmentBytes);
    const { whole, deltas } = await findSegmentObjects(store, folder, name, options);
    const chain = whole === undefined ? chainOfDeltas(deltas) : [];
    const archived = whole === undefined ? (chain.at(-1)?.to ?? 0) : segmentBytes;
    const left = Number(line.end - start);
    const bytes = Math.min(archived, left);
    for (const { from, to } of deltas) if (from < left) furthest = Math.max(furthest, Math.min(to, left));
    if (bytes > (most?.bytes ?? 0)) most = { name, whole, chain, start, bytes };
  }
  return most && { ...most, furthest: Math.max(furthest, most.bytes) };
}

/** All that was found, also what is not on the way: only at its end is an object known to be what was stored. */
export function readFound(
  store: ObjectStore,
  { name, whole, chain, start }: FoundOnPath,
  { systemIdentifier }: WalFolder,
  options: CallOptions & { readonly keys: DecryptionKeys },
): ByteStream {
  if (whole !== undefined) return readWhole(store, whole, { name, systemIdentifier }, options);
  return readParts(store, chain, start, options);
}
