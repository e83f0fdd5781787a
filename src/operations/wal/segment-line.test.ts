import { expect, test } from 'vitest';
import { FaultyStore } from '../../../test/support/faulty-store.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import { pieceOf, WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import { systemClock } from '../../common/clock.ts';
import { silentLogger } from '../../common/log.ts';
import { systemRandom } from '../../common/random.ts';
import { putWalFile } from '../../formats/wal/store-piece.ts';
import type { ReceivedWal } from '../../postgres/replication/segment-stream.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import { SegmentContent } from '../../postgres/wal/segment-content.ts';
import { segmentEnd } from '../../postgres/wal/segment.ts';
import { serverTimeOfDate } from '../../postgres/wal/server-time.ts';
import { Archives } from './archives.ts';
import { SegmentDeltas } from './segment-deltas.ts';
import { SegmentLine } from './segment-line.ts';

const { segmentBytes } = WAL_IDENTITY;
const SEALING = { sealer: undefined, keys: { identities: [], passphrases: [] } };

function received(number: number): ReceivedWal {
  const segment = { timeline: 1, number: BigInt(number) };
  const content = new SegmentContent(segment, WAL_IDENTITY);
  content.append(madeSegment(segment));
  const at = serverTimeOfDate(new Date('2026-11-20T02:00:00Z'));
  return { content, from: 0, to: segmentBytes, since: at, until: at, serverEnd: content.end };
}

function endOf(number: number): Lsn {
  return segmentEnd({ number: BigInt(number) }, segmentBytes);
}

/** A line into a store, and what is said of it. */
async function openLine() {
  const store = new MemoryStore();
  const faulty = new FaultyStore(store);
  const archives = await Archives.open(
    [{ name: 'near', store: faulty }],
    { ...WAL_FOLDER, segmentBytes },
    { clock: systemClock, random: systemRandom, logger: silentLogger, pgarkVersion: '0.1.0', sealing: SEALING },
  );
  const giveUp = new AbortController();
  const archived: Lsn[] = [];
  const line = new SegmentLine({
    archives,
    identity: WAL_IDENTITY,
    sealer: undefined,
    signal: giveUp.signal,
    onArchived: (end) => archived.push(end),
  });
  const add = (segment: ReceivedWal): Promise<void> =>
    line.add(segment, new SegmentDeltas(segment.content.name, archives, WAL_IDENTITY));
  /** Numbers of the segments in the store. */
  const stored = (): readonly number[] =>
    [...store.objects.keys()]
      .filter((key) => key.endsWith('.zst'))
      .map((key) => Number.parseInt(key.slice(-12, -4), 16));
  return { store, faulty, line, add, stored, archived, giveUp };
}

/** Holds up the put of a segment. */
function held(number: number): {
  readonly before: NonNullable<FaultyStore['faults']['before']>;
  readonly begun: Promise<void>;
  readonly letGo: (error?: Error) => void;
} {
  const begun = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  return {
    before: async ({ method, key }) => {
      if (method !== 'putStream' || Number.parseInt(key.slice(-12, -4), 16) !== number) return;
      begun.resolve();
      await gate.promise;
    },
    begun: begun.promise,
    letGo: (error) => (error === undefined ? gate.resolve() : gate.reject(error)),
  };
}

test('nothing shows in the archive before what is in front of it, while the next one is made ready', async () => {
  const { faulty, line, add, stored, archived } = await openLine();
  const { before, begun, letGo } = held(1);
  faulty.faults = { before };
  const [first, second, third] = [received(1), received(2), received(3)];
  await add(first);
  await begun;
  const isNext = add(second).then(() => add(third));
  // It is ready: its memory is free.
  while (second.content.filledBytes > 0) await new Promise(setImmediate);
  expect([stored(), archived]).toEqual([[], []]);
  letGo();
  await isNext;
  await line.done();
  expect(stored()).toEqual([1, 2, 3]);
  expect(archived).toEqual([1, 2, 3].map(endOf));
});

test('nothing behind a segment that is another server’s is stored, or said to be archived', async () => {
  const { store, faulty, line, add, stored, archived } = await openLine();
  const foreign = { timeline: 1, number: 2n };
  const place = { store, folder: WAL_FOLDER, ...SEALING };
  await putWalFile(place, pieceOf(foreign, madeSegment(foreign, { seed: 7 })));
  const { before, begun, letGo } = held(2);
  faulty.faults = { before };
  await add(received(1));
  await add(received(2));
  await begun;
  const next = add(received(3));
  letGo();
  await expect(next).rejects.toMatchObject({ code: 'wal-conflict' });
  await expect(line.done()).rejects.toMatchObject({ code: 'wal-conflict' });
  expect(line.failed.reason).toMatchObject({ code: 'wal-conflict' });
  await expect(add(received(4))).rejects.toMatchObject({ code: 'wal-conflict' });
  expect(new Set(stored())).toEqual(new Set([1, 2]));
  expect(archived).toEqual([endOf(1)]);
});

test('what is given up in the midst of being stored is not said to be archived, nor is what follows it', async () => {
  const { faulty, line, add, stored, archived, giveUp } = await openLine();
  const { before, begun, letGo } = held(2);
  faulty.faults = { before };
  await add(received(1));
  await add(received(2));
  await begun;
  const next = add(received(3));
  giveUp.abort(new Error('the time is over'));
  letGo();
  await expect(next).rejects.toThrow('the time is over');
  await expect(line.done()).rejects.toThrow('the time is over');
  expect([stored(), archived]).toEqual([[1], [endOf(1)]]);
});
