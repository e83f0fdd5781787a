import { createHash } from 'node:crypto';
import { MIB } from '../../common/bytes.ts';
import type { ReceivedWal } from '../../postgres/replication/segment-stream.ts';
import type { WalIdentity } from '../../postgres/wal/segment-content.ts';
import { segmentStart } from '../../postgres/wal/segment.ts';
import type { WalPiece } from './wal-piece.ts';

/** A delta is put in one request, and has to fit a small object also if nothing in it can be compressed. */
export const DELTA_BYTES_MAX = 4 * MIB;

/** What was received of a segment in parts that a delta can hold, in their order. */
export function* deltasOf(received: ReceivedWal): Generator<ReceivedWal> {
  for (let { from } = received; from < received.to; from += DELTA_BYTES_MAX) {
    yield { ...received, from, to: Math.min(received.to, from + DELTA_BYTES_MAX) };
  }
}

/** What was received as something to archive: a segment if it is whole, else a delta. Its bytes are read, not copied. */
export function receivedPiece(received: ReceivedWal, identity: WalIdentity): WalPiece {
  const { content, from, to, since, until, serverEnd } = received;
  const { name, segment } = content;
  const { systemIdentifier, segmentBytes } = identity;
  const isWhole = from === 0 && to === segmentBytes;
  const start = segmentStart(segment, segmentBytes);
  const hash = createHash('sha256');
  for (const view of content.views(from, to)) hash.update(view);
  return {
    wal: isWhole ? { kind: 'segment', name } : { kind: 'delta', name, from, to },
    facts: {
      systemIdentifier,
      segmentBytes,
      timeline: segment.timeline,
      from: start + BigInt(from),
      to: start + BigInt(to),
      since,
      until,
      serverEnd,
      bytes: to - from,
      sha256: hash.digest('hex'),
    },
    content: async function* () {
      yield* content.views(from, to);
    },
  };
}
