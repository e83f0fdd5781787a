import { createHash } from 'node:crypto';
import type { PieceFacts } from '../../src/formats/wal/piece-facts.ts';
import type { WalPiece } from '../../src/formats/wal/wal-piece.ts';
import { type Segment, segmentName, segmentStart } from '../../src/postgres/wal/segment.ts';
import { serverTimeOfDate } from '../../src/postgres/wal/server-time.ts';
import { WAL_IDENTITY } from './wal-bytes.ts';

const { systemIdentifier, segmentBytes } = WAL_IDENTITY;
export const WAL_FOLDER = { source: 'shop', systemIdentifier };

/** A piece of a segment's bytes, from an offset up to another one: a delta, unless it is the whole. */
export function pieceOf(segment: Segment, bytes: Uint8Array, from = 0, to = bytes.length): WalPiece {
  const content = bytes.subarray(from, to);
  const start = segmentStart(segment, segmentBytes);
  const facts: PieceFacts = {
    systemIdentifier,
    segmentBytes,
    timeline: segment.timeline,
    from: start + BigInt(from),
    to: start + BigInt(to),
    since: serverTimeOfDate(new Date('2026-11-20T02:00:00Z')),
    until: serverTimeOfDate(new Date('2026-11-20T02:00:10Z')) + 7n,
    serverEnd: start + BigInt(to),
    bytes: content.length,
    sha256: createHash('sha256').update(content).digest('hex'),
  };
  const name = segmentName(segment, segmentBytes);
  const isWhole = from === 0 && to === segmentBytes;
  return {
    wal: isWhole ? { kind: 'segment', name } : { kind: 'delta', name, from, to },
    facts,
    content: async function* () {
      for (let at = 0; at < content.length; at += 300_000) yield content.subarray(at, at + 300_000);
    },
  };
}
