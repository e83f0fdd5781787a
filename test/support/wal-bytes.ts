import type { Lsn } from '../../src/postgres/wal/lsn.ts';
import type { WalIdentity } from '../../src/postgres/wal/segment-content.ts';
import { type Segment, segmentStart } from '../../src/postgres/wal/segment.ts';

const PAGE_BYTES = 8192;

export const WAL_IDENTITY: WalIdentity = {
  systemIdentifier: '7380000000000000001',
  segmentBytes: 2 ** 20,
  magic: 0xd110,
};

export interface MadeSegmentOptions {
  readonly identity?: WalIdentity;
  /** What its pages hold besides their heads. */
  readonly seed?: number;
  /** Pages from here on are zeros, as after a switch of segments. Default: none. */
  readonly usedPages?: number;
  /** Pages before it are of the timeline before, as those of the segment that a new timeline begins in. Default: 0. */
  readonly olderPages?: number;
}

/** A segment with the page heads that a server writes, and any content. */
export function madeSegment(segment: Segment, options: MadeSegmentOptions = {}): Buffer {
  const { identity = WAL_IDENTITY, seed = Number(segment.number), olderPages = 0 } = options;
  const pages = identity.segmentBytes / PAGE_BYTES;
  const bytes = Buffer.alloc(identity.segmentBytes);
  const start: Lsn = segmentStart(segment, identity.segmentBytes);
  for (let page = 0; page < Math.min(pages, options.usedPages ?? pages); page += 1) {
    const at = page * PAGE_BYTES;
    for (let word = at; word < at + PAGE_BYTES; word += 4) bytes.writeUInt32LE((seed * 7919 + word) >>> 0, word);
    bytes.writeUInt16LE(identity.magic ?? 0xd110, at);
    bytes.writeUInt16LE(page === 0 ? 2 : 0, at + 2);
    bytes.writeUInt32LE(page < olderPages ? segment.timeline - 1 : segment.timeline, at + 4);
    bytes.writeBigUInt64LE(start + BigInt(at), at + 8);
    bytes.writeUInt32LE(0, at + 16);
    if (page > 0) continue;
    bytes.writeBigUInt64LE(BigInt(identity.systemIdentifier), 24);
    bytes.writeUInt32LE(identity.segmentBytes, 32);
    bytes.writeUInt32LE(PAGE_BYTES, 36);
  }
  return bytes;
}
