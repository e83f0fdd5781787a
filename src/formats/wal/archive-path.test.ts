import { expect, test } from 'vitest';
import { FaultyStore } from '../../../test/support/faulty-store.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { bytesOf } from '../../../test/support/streams.ts';
import { madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import { pieceOf, WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { ArchivePath } from './archive-path.ts';
import { putTimelineHistory, putWalDelta, putWalFile } from './store-piece.ts';

const { segmentBytes } = WAL_IDENTITY;
const SIZE = BigInt(segmentBytes);
const keys = { identities: [], passphrases: [] };
const signal = new AbortController().signal;

const placeIn = (store: ObjectStore) => ({ store, folder: WAL_FOLDER, sealer: undefined, keys });

async function pathIn(store: ObjectStore, timeline?: number): Promise<ArchivePath> {
  return ArchivePath.open(WAL_FOLDER, segmentBytes, timeline, { store, keys, signal });
}

const segment = (number: bigint, timeline = 1) => ({ timeline, number });
const bytes = (number: bigint, timeline = 1, olderPages = 0): Buffer =>
  madeSegment(segment(number, timeline), { olderPages });

test('is read from segment to segment and delta to delta, up to a position', async () => {
  const store = new MemoryStore();
  await putWalFile(placeIn(store), pieceOf(segment(3n), bytes(3n)));
  await putWalDelta(placeIn(store), pieceOf(segment(4n), bytes(4n), 0, 5_000));
  await putWalDelta(placeIn(store), pieceOf(segment(4n), bytes(4n), 4_000, 9_000));
  const path = await pathIn(store);
  expect(path.stretches).toEqual([{ from: 3n * SIZE, to: 4n * SIZE + 9_000n }]);
  const all = Buffer.concat([bytes(3n), bytes(4n).subarray(0, 9_000)]);
  expect((await bytesOf(path.read(3n, 4n * SIZE + 9_000n))).equals(all)).toBe(true);
  expect((await bytesOf(path.read(3n, 3n * SIZE + 17n))).equals(all.subarray(0, 17))).toBe(true);
  expect((await path.factsOf(4n))?.to).toBe(4n * SIZE + 9_000n);
  expect(await path.factsOf(5n)).toBeUndefined();
  await expect(bytesOf(path.read(4n, 5n * SIZE))).rejects.toMatchObject({
    code: 'wal-gap',
    message: expect.stringContaining('from 0/402328 to 0/500000'),
  });
});

test('goes on along the timeline, with the segment in which that began', async () => {
  const store = new MemoryStore();
  for (const number of [3n, 4n, 5n]) await putWalFile(placeIn(store), pieceOf(segment(number), bytes(number)));
  const history = Buffer.from('1\t0/410000\tno recovery target specified\n');
  await putTimelineHistory(placeIn(store), '00000002.history', history);
  await putWalFile(placeIn(store), pieceOf(segment(4n, 2), bytes(4n, 2, 8)));
  const path = await pathIn(store);
  expect(path.history.timeline).toBe(2);
  const all = Buffer.concat([bytes(3n), bytes(4n, 2, 8)]);
  expect((await bytesOf(path.read(3n, 5n * SIZE))).equals(all)).toBe(true);
  expect((await pathIn(store, 1)).stretches).toEqual([{ from: 3n * SIZE, to: 6n * SIZE }]);
  await expect(pathIn(store, 3)).rejects.toMatchObject({ code: 'wal-unknown' });
  await store.delete(`shop/wal/${WAL_FOLDER.systemIdentifier}/00000002.history`);
  await expect(pathIn(store)).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining('.history') });
});

test.each([
  ['a part that is shorter than what the older timeline had', [[0, 8_000]]],
  ['a part whose beginning is missing', [[4_000, 30_000]]],
])('goes on with the older timeline where the new one has of that segment %s', async (_, parts) => {
  const store = new MemoryStore();
  for (const number of [3n, 4n]) await putWalFile(placeIn(store), pieceOf(segment(number), bytes(number)));
  const history = Buffer.from('1\t0/402710\tno recovery target specified\n');
  await putTimelineHistory(placeIn(store), '00000002.history', history);
  for (const [from, to] of parts) await putWalDelta(placeIn(store), pieceOf(segment(4n, 2), bytes(4n, 2, 8), from, to));
  const path = await pathIn(store);
  const end = 4n * SIZE + 10_000n;
  expect(path.stretches[0]?.from).toBe(3n * SIZE);
  const all = Buffer.concat([bytes(3n), bytes(4n).subarray(0, 10_000)]);
  expect((await bytesOf(path.read(3n, end))).equals(all)).toBe(true);
  // What the old server wrote behind that is no way to the new timeline.
  await expect(bytesOf(path.read(4n, end + 1n))).rejects.toMatchObject({ code: 'wal-gap' });
});

test('is read although a receiver puts its parts together meanwhile', async () => {
  const memory = new MemoryStore();
  await putWalDelta(placeIn(memory), pieceOf(segment(3n), bytes(3n), 0, 5_000));
  await putWalDelta(placeIn(memory), pieceOf(segment(3n), bytes(3n), 5_000, 9_000));
  let gets = 0;
  const store = new FaultyStore(memory, {
    before: async ({ method, key }) => {
      if (method !== 'get') return;
      gets += 1;
      if (gets !== 2) return;
      await putWalFile(placeIn(memory), pieceOf(segment(3n), bytes(3n)));
      await memory.delete(key);
    },
  });
  const path = await pathIn(store);
  expect((await bytesOf(path.read(3n, 3n * SIZE + 9_000n))).equals(bytes(3n).subarray(0, 9_000))).toBe(true);
  expect(gets).toBe(3);
});
