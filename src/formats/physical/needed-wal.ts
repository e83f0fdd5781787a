import { assert, PgarkError } from '../../common/errors.ts';
import { formatLsn, type Lsn, parseLsn } from '../../postgres/wal/lsn.ts';
import { parseSegmentName, segmentAt, segmentName, segmentStart, timelineDigits } from '../../postgres/wal/segment.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { parseWalKey, type WalFolder, type WalObject, walPrefix, walSegmentPrefix } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../../storage/object-store.ts';
import { chainOfDeltas } from '../wal/archive-index.ts';

/** WAL of one timeline, from a position up to another one. */
export interface WalSpan {
  readonly folder: WalFolder;
  readonly timeline: number;
  readonly from: Lsn;
  readonly to: Lsn;
  readonly segmentBytes: number;
  /** Of the timeline's history; undefined where it was not noted. */
  readonly historySha256?: string | undefined;
}

/** A segment as it is archived: whole, or its beginning in deltas, in their order. */
export interface ArchivedSegment {
  readonly name: string;
  readonly parts: readonly ArchivedPart[];
}

export interface ArchivedPart extends Pick<WalObject, 'encryption'> {
  readonly key: ObjectKey;
  /** Where its segment starts. */
  readonly start: Lsn;
  /** Offsets in the segment. */
  readonly from: number;
  readonly to: number;
}

/** Names of the segments that the span lies in. */
export function* segmentsOf({ timeline, from, to, segmentBytes }: WalSpan): Generator<string> {
  assert(from < to, 'a span holds something');
  const last = segmentAt(timeline, to - 1n, segmentBytes).number;
  for (let { number } = segmentAt(timeline, from, segmentBytes); number <= last; number += 1n) {
    yield segmentName({ timeline, number }, segmentBytes);
  }
}

/** What a physical backup needs. Error: `repository-damaged` for a manifest that does not say it. */
export function spanOf({ id, source, server, timeline, startLsn, stopLsn, walNeeded }: Manifest): WalSpan {
  const { systemIdentifier } = server;
  const segmentBytes = walNeeded?.segmentBytes;
  if (systemIdentifier && timeline && startLsn && stopLsn && segmentBytes) {
    const folder = { source, systemIdentifier };
    const { historySha256 } = walNeeded;
    return { folder, timeline, from: parseLsn(startLsn), to: parseLsn(stopLsn), segmentBytes, historySha256 };
  }
  throw new PgarkError('repository-damaged', `the manifest of ${id} does not say which write-ahead log it needs`);
}

/**
 * The segments of a span as they are archived, without a gap, by one listing. Error: `corrupt` for the first one that is
 * not there, or not up to the span's end.
 */
export async function findSpan(
  store: ObjectStore,
  span: WalSpan,
  options: CallOptions = {},
): Promise<readonly ArchivedSegment[]> {
  const { folder, timeline, segmentBytes, to } = span;
  const names = [...segmentsOf(span)];
  const [first = '', last = ''] = [names[0], names.at(-1)];
  const found = new Map<string, ArchivedPart[]>();
  const prefix = walPrefix(folder, timelineDigits(timeline));
  const end = `${walSegmentPrefix(folder, last)}~`;
  for await (const { key } of store.list(prefix, { ...options, startAfter: walSegmentPrefix(folder, first) })) {
    if (key > end) break;
    const wal = parseWalKey(key);
    if (wal?.kind !== 'segment' && wal?.kind !== 'delta') continue;
    const segment = parseSegmentName(wal.name, segmentBytes);
    if (segment === undefined) continue;
    const range = wal.kind === 'segment' ? { from: 0, to: segmentBytes } : { from: wal.from, to: wal.to };
    const parts = found.get(wal.name) ?? [];
    parts.push({ key, encryption: wal.encryption, start: segmentStart(segment, segmentBytes), ...range });
    found.set(wal.name, parts);
  }
  return names.map((name) => {
    const parts = chainOfDeltas(found.get(name) ?? []);
    if ((parts.at(-1)?.to ?? 0) >= bytesNeeded(name, to, segmentBytes)) return { name, parts };
    throw new PgarkError(
      'corrupt',
      `the write-ahead log up to ${formatLsn(to)} is not all in ${store.location}: of segment ${name} there is ${parts.length === 0 ? 'nothing' : 'a part only'}`,
      { hint: 'without it the base backup cannot be restored: restore another backup, pgark list shows them' },
    );
  });
}

/** How much of a segment a span that ends at the position needs. */
function bytesNeeded(name: string, to: Lsn, segmentBytes: number): number {
  const segment = parseSegmentName(name, segmentBytes);
  assert(segment !== undefined, 'the name was made for that size');
  const rest = to - segmentStart(segment, segmentBytes);
  return rest < BigInt(segmentBytes) ? Number(rest) : segmentBytes;
}
