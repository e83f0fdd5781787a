import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { makeTempDirectory } from '../../../test/support/temp.ts';
import { madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import { pieceOf, WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import { PgarkError } from '../../common/errors.ts';
import { putWalDelta, putWalFile } from '../../formats/wal/store-piece.ts';
import { segmentName } from '../../postgres/wal/segment.ts';
import { FaultyStore } from '../../../test/support/faulty-store.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { operationContext } from '../context.ts';
import { openWalRecord } from './open-wal-record.ts';
import { fetchWal } from './fetch.ts';

const { segmentBytes } = WAL_IDENTITY;
const SEGMENT = { timeline: 1, number: 7n };
const BYTES = madeSegment(SEGMENT);
const NO_KEYS = { identities: [], passphrases: [] };

/** An archive that has so much of the segment: all of it, or its beginning. */
async function archiveWith(bytes: number): Promise<ObjectStore> {
  const store = new MemoryStore();
  const place = { store, folder: WAL_FOLDER, sealer: undefined, keys: NO_KEYS };
  await openWalRecord(store, { ...WAL_FOLDER, segmentBytes }, operationContext());
  if (bytes === segmentBytes) await putWalFile(place, pieceOf(SEGMENT, BYTES));
  else if (bytes > 0) await putWalDelta(place, pieceOf(SEGMENT, BYTES, 0, bytes));
  return store;
}

/** How much of the segment is fetched. */
async function fetched(stores: readonly ObjectStore[]): Promise<number | 'absent'> {
  await using directory = await makeTempDirectory();
  const target = directory.join('fetched');
  const request = {
    ...WAL_FOLDER,
    stores: stores.map((store, index) => ({ name: String(index), store })),
    keys: NO_KEYS,
    name: segmentName(SEGMENT, segmentBytes),
    target,
  };
  if ((await fetchWal(request, operationContext())) === 'absent') return 'absent';
  const content = await readFile(target);
  expect(content.length).toBe(segmentBytes);
  return (
    [segmentBytes, 20_000, 8_000].find((bytes) => content.subarray(0, bytes).equals(BYTES.subarray(0, bytes))) ?? 0
  );
}

test.each([
  ['the whole segment, wherever it is', [8_000, segmentBytes], segmentBytes],
  ['the longest beginning there is', [8_000, 0, 20_000], 20_000],
  ['nothing, where none has any of it', [0, 0], 'absent'],
])('of several storages is fetched %s', async (_, held, expected) => {
  const stores = await Promise.all(held.map(archiveWith));
  expect(await fetched(stores)).toBe(expected);
  expect(await fetched(stores.toReversed())).toBe(expected);
});

test('a beginning is not taken for all there is while a storage cannot be asked', async () => {
  const silent = new FaultyStore(await archiveWith(segmentBytes), {
    before: () => {
      throw new PgarkError('store-unreachable', 'the test refuses');
    },
  });
  const stores = [silent, await archiveWith(8_000)];
  await expect(fetched(stores)).rejects.toMatchObject({ code: 'store-unreachable' });
  await expect(fetched(stores.toReversed())).rejects.toMatchObject({ code: 'store-unreachable' });
  expect(await fetched([silent, await archiveWith(segmentBytes)])).toBe(segmentBytes);
});

test('a segment that becomes whole while its beginning is read is fetched as a whole', async () => {
  const store = await archiveWith(8_000);
  let isWhole = false;
  const archive = new FaultyStore(store, {
    before: async ({ method, key }) => {
      if (method !== 'get' || !key.endsWith('.delta.zst') || isWhole) return;
      isWhole = true;
      await putWalFile({ store, folder: WAL_FOLDER, sealer: undefined, keys: NO_KEYS }, pieceOf(SEGMENT, BYTES));
      await store.delete(key);
    },
  });
  expect(await fetched([archive])).toBe(segmentBytes);
  expect(isWhole).toBe(true);
});

test('a segment that is archived and followed by another one meanwhile is no gap', async () => {
  const store = await archiveWith(8_000);
  const place = { store, folder: WAL_FOLDER, sealer: undefined, keys: NO_KEYS };
  let lists = 0;
  const archive = new FaultyStore(store, {
    before: async ({ method }) => {
      if (method !== 'list') return;
      lists += 1;
      if (lists !== 2) return;
      const next = { timeline: 1, number: 8n };
      await putWalFile(place, pieceOf(SEGMENT, BYTES));
      await putWalDelta(place, pieceOf(next, madeSegment(next), 0, 8_000));
    },
  });
  expect(await fetched([archive])).toBe(segmentBytes);
  const gap = await archiveWith(0);
  await putWalFile(
    { ...place, store: gap },
    pieceOf({ timeline: 1, number: 9n }, madeSegment({ timeline: 1, number: 9n })),
  );
  await expect(fetched([gap])).rejects.toMatchObject({ code: 'wal-gap' });
});

test('of a server whose base backups alone have put WAL there, the end is proven, and a gap is none', async () => {
  const store = new MemoryStore();
  const place = { store, folder: WAL_FOLDER, sealer: undefined, keys: NO_KEYS };
  await putWalFile(place, pieceOf(SEGMENT, BYTES));
  expect(await fetched([store])).toBe(segmentBytes);
  const ask = async (name: string) => {
    await using directory = await makeTempDirectory();
    const stores = [{ name: 'only', store }];
    const request = { ...WAL_FOLDER, stores, keys: NO_KEYS, name, target: directory.join('fetched') };
    return await fetchWal(request, operationContext());
  };
  expect(await ask(segmentName({ timeline: 1, number: 8n }, segmentBytes))).toBe('absent');
  expect(await ask('00000002.history')).toBe('absent');
  expect(await ask('00000001.history')).toBe('absent');
  const before = ask(segmentName({ timeline: 1, number: 6n }, segmentBytes));
  await expect(before).rejects.toMatchObject({ code: 'wal-gap' });
});
