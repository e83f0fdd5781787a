import { expect, test } from 'vitest';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import { pieceOf, WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import { type Logger, silentLogger } from '../../common/log.ts';
import { generateAgeIdentity } from '../../pipeline/encryption/age-keys.ts';
import { ageSealer } from '../../pipeline/encryption/age-sealer.ts';
import { putWalFile } from '../../formats/wal/store-piece.ts';
import { SegmentContent } from '../../postgres/wal/segment-content.ts';
import { segmentName } from '../../postgres/wal/segment.ts';
import { serverTimeOfDate } from '../../postgres/wal/server-time.ts';
import { operationContext } from '../context.ts';
import { Archives } from './archives.ts';
import { SegmentDeltas } from './segment-deltas.ts';

const { segmentBytes } = WAL_IDENTITY;
const { signal } = new AbortController();
const SEGMENT = { timeline: 1, number: 7n };
const NO_KEYS = { identities: [], passphrases: [] };

/** Compares a segment that comes with one that was archived for a key that nobody here has. Resolves with what is warned of. */
async function compareWith(seed: number, { keepsMetadata = true } = {}): Promise<readonly string[]> {
  const warned: string[] = [];
  const logger: Logger = { ...silentLogger, warning: (event) => warned.push(event), child: () => logger };
  const store = new MemoryStore({ keepsMetadata });
  const { recipient } = await generateAgeIdentity();
  const place = { store, folder: WAL_FOLDER, sealer: await ageSealer({ recipients: [recipient] }), keys: NO_KEYS };
  await putWalFile(place, pieceOf(SEGMENT, madeSegment(SEGMENT, { seed })));
  const archives = await Archives.open(
    [{ name: 'near', store }],
    { ...WAL_FOLDER, segmentBytes },
    { ...operationContext({ logger }), sealing: { sealer: undefined, keys: NO_KEYS } },
  );
  const content = new SegmentContent(SEGMENT, WAL_IDENTITY);
  content.append(madeSegment(SEGMENT, { seed: 1 }));
  const at = serverTimeOfDate(new Date('2026-11-20T02:00:00Z'));
  const deltas = new SegmentDeltas(segmentName(SEGMENT, segmentBytes), archives, WAL_IDENTITY);
  expect(await deltas.findLeft(signal)).toBe(true);
  await deltas.compare({ content, from: 0, to: segmentBytes, since: at, until: at, serverEnd: undefined }, signal);
  return warned;
}

test('a segment is compared with what is archived of it, however that was encrypted', async () => {
  expect(await compareWith(1)).toEqual([]);
  await expect(compareWith(2)).rejects.toMatchObject({ code: 'wal-conflict' });
  // Nobody can tell there what it holds.
  expect(await compareWith(2, { keepsMetadata: false })).toEqual(['wal.not_compared']);
});
