import { readdir, readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { LOG_SEGMENT_BYTES, LOG_START, MadeLog, TABLESPACE, tablespaceData } from '../../../test/support/made-log.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { makeTempDirectory } from '../../../test/support/temp.ts';
import { madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import { pieceOf, WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import { PgarkError } from '../../common/errors.ts';
import { Secret } from '../../common/secret.ts';
import { putTimelineHistory, putWalDelta, putWalFile, type WalPlace } from '../../formats/wal/store-piece.ts';
import { opensslSealer } from '../../pipeline/encryption/openssl-sealer.ts';
import { formatLsn, LSN_MAX } from '../../postgres/wal/lsn.ts';
import { segmentName, segmentStart } from '../../postgres/wal/segment.ts';
import type { ReplayedSpan } from '../../postgres/wal/tablespace-watch.ts';
import { FaultyStore } from '../../../test/support/faulty-store.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { operationContext } from '../context.ts';
import { openWalRecord } from './open-wal-record.ts';
import { fetchWal } from './fetch.ts';

const { segmentBytes } = WAL_IDENTITY;
const SEGMENT = { timeline: 1, number: 7n };
const BYTES = madeSegment(SEGMENT);
const NO_KEYS = { identities: [], passphrases: [] };
const IN_CLEAR = { folder: WAL_FOLDER, sealer: undefined, keys: NO_KEYS };

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
async function fetched(stores: readonly ObjectStore[], neededBytes?: number): Promise<number | 'absent'> {
  await using directory = await makeTempDirectory();
  const target = directory.join('fetched');
  const request = {
    ...WAL_FOLDER,
    stores: stores.map((store, index) => ({ name: String(index), store })),
    keys: NO_KEYS,
    name: segmentName(SEGMENT, segmentBytes),
    target,
    upTo: neededBytes === undefined ? undefined : segmentStart(SEGMENT, segmentBytes) + BigInt(neededBytes),
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

test('a part behind one that is missing is a gap, unless another storage has what is missing', async () => {
  const broken = async (...parts: readonly (readonly [number, number])[]): Promise<ObjectStore> => {
    const store = await archiveWith(0);
    for (const [from, to] of parts) await putWalDelta({ ...IN_CLEAR, store }, pieceOf(SEGMENT, BYTES, from, to));
    return store;
  };
  const gap = { code: 'wal-gap' };
  const hole = await broken([0, 8_000], [12_000, 20_000]);
  await expect(fetched([hole])).rejects.toMatchObject(gap);
  await expect(fetched([await broken([12_000, 20_000])])).rejects.toMatchObject(gap);
  await expect(fetched([hole, await archiveWith(8_000)])).rejects.toMatchObject(gap);
  expect(await fetched([hole, await archiveWith(20_000)])).toBe(20_000);
  expect(await fetched([await archiveWith(segmentBytes), hole])).toBe(segmentBytes);
  // A recovery that goes no further than what is there in front of it comes to its target.
  expect(await fetched([hole], 8_000)).toBe(8_000);
  expect(await fetched([hole, await archiveWith(0)], 7_000)).toBe(8_000);
  await expect(fetched([hole], 8_001)).rejects.toMatchObject(gap);
  await expect(fetched([await broken([12_000, 20_000])], 1)).rejects.toMatchObject(gap);
  const later = { timeline: 1, number: 8n };
  await putWalFile({ ...IN_CLEAR, store: hole }, pieceOf(later, madeSegment(later)));
  expect(await fetched([hole], 8_000)).toBe(8_000);
  await expect(fetched([hole], 8_001)).rejects.toMatchObject(gap);
  // Each begins where those before it end, or earlier.
  expect(await fetched([await broken([0, 8_000], [0, 12_000], [8_000, 20_000])])).toBe(20_000);
});

test('parts that are put together while they are looked for are no gap', async () => {
  const store = await archiveWith(0);
  const place = { ...IN_CLEAR, store };
  for (const [from, to] of [
    [0, 4_000],
    [8_000, 20_000],
  ] as const)
    await putWalDelta(place, pieceOf(SEGMENT, BYTES, from, to));
  let lists = 0;
  const archive = new FaultyStore(store, {
    after: async ({ method }) => {
      lists += method === 'list' ? 1 : 0;
      if (method === 'list' && lists === 1) await putWalDelta(place, pieceOf(SEGMENT, BYTES, 0, 8_000));
    },
  });
  expect(await fetched([archive])).toBe(20_000);
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
  expect(await ask(store, segmentName({ timeline: 1, number: 8n }, segmentBytes))).toBe('absent');
  expect(await ask(store, '00000002.history')).toBe('absent');
  expect(await ask(store, '00000001.history')).toBe('absent');
  const before = ask(store, segmentName({ timeline: 1, number: 6n }, segmentBytes));
  await expect(before).rejects.toMatchObject({ code: 'wal-gap' });
});

test('without a record, whose loss loses nothing, the beginning of the newest segment is fetched', async () => {
  const recordKey = `.pgark/wal/shop/${WAL_FOLDER.systemIdentifier}.json`;
  const store = new MemoryStore();
  await putWalFile({ ...IN_CLEAR, store }, pieceOf(SEGMENT, BYTES));
  const newest = { timeline: 1, number: 8n };
  const content = madeSegment(newest);
  await putWalDelta({ ...IN_CLEAR, store }, pieceOf(newest, content, 0, 8_000));
  await putWalDelta({ ...IN_CLEAR, store }, pieceOf(newest, content, 8_000, 20_000));
  expect(await store.head(recordKey)).toBeUndefined();
  const found = await ask(store, segmentName(newest, segmentBytes));
  const wanted = Buffer.concat([content.subarray(0, 20_000), Buffer.alloc(segmentBytes - 20_000)]);
  expect(found === 'absent' ? found : found.equals(wanted)).toBe(true);
  expect(await ask(store, segmentName({ timeline: 1, number: 9n }, segmentBytes))).toBe('absent');

  const { store: failedOver, place } = await archiveOfFailover();
  await putWalDelta(place, pieceOf({ ...FORK, timeline: 1 }, madeSegment({ ...FORK, timeline: 1 }), 0, FORK_AT));
  await putWalFile(place, pieceOf({ timeline: 1, number: 8n }, madeSegment({ timeline: 1, number: 8n })));
  await failedOver.delete(recordKey);
  // Of the timeline itself there is nothing yet that would say how large its segments are.
  expect(await ask(failedOver, segmentName(FORK, segmentBytes))).not.toBe('absent');
});

test('what cannot be told without a key or from a damaged object is not called absent', async () => {
  const store = new MemoryStore();
  const sealer = await opensslSealer({ passphrase: new Secret('a passphrase of the test, long enough') });
  await putWalDelta({ ...IN_CLEAR, store, sealer }, pieceOf(SEGMENT, BYTES, 0, 8_000));
  const name = segmentName(SEGMENT, segmentBytes);
  await expect(ask(store, name)).rejects.toMatchObject({ code: 'key-missing' });
  const other = new MemoryStore();
  const { wal, ...piece } = pieceOf({ timeline: 1, number: 3n }, BYTES, 0, 8_000);
  await putWalDelta({ ...IN_CLEAR, store: other }, { ...piece, wal: { ...wal, name } });
  await expect(ask(other, name)).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining(name) });
});

test.each([
  ['as a whole', segmentBytes],
  ['in its beginning', 20_000],
])('a tablespace at a path is refused where that is asked for: %s', async (_, bytes) => {
  const log = new MadeLog();
  log.record(10, 0, Buffer.alloc(9_000));
  const made = log.record(TABLESPACE.manager, TABLESPACE.info, tablespaceData(16_400, '/srv/ts'));
  log.fillTo(LOG_SEGMENT_BYTES);
  const segment = { timeline: 1, number: LOG_START / BigInt(LOG_SEGMENT_BYTES) };
  const store = new MemoryStore();
  const place = { store, folder: WAL_FOLDER, sealer: undefined, keys: NO_KEYS };
  await openWalRecord(store, { ...WAL_FOLDER, segmentBytes }, operationContext());
  const content = log.bytes.subarray(0, LOG_SEGMENT_BYTES);
  if (bytes === segmentBytes) await putWalFile(place, pieceOf(segment, content));
  else await putWalDelta(place, pieceOf(segment, content, 0, bytes));
  await using directory = await makeTempDirectory();
  const request = {
    ...WAL_FOLDER,
    stores: [{ name: 'only', store }],
    keys: NO_KEYS,
    name: segmentName(segment, segmentBytes),
    target: directory.join('fetched'),
  };
  const fetch = (replayed?: ReplayedSpan) => fetchWal({ ...request, replayed }, operationContext());
  await expect(fetch({ from: made, to: LSN_MAX })).rejects.toMatchObject({ code: 'tablespace-path' });
  expect(await readdir(directory.path)).toEqual([]);
  expect(await fetch({ from: made + 1n, to: LSN_MAX })).toBe('found');
  expect(await fetch({ from: 0n, to: made })).toBe('found');
  expect(await fetch()).toBe('found');
});

/** An archive of timeline 1 that goes on as timeline 2 within segment 9, at 9,000 of its bytes. */
const FORK = { timeline: 2, number: 9n };
const FORK_AT = 9_000;
async function archiveOfFailover(): Promise<{ readonly store: MemoryStore; readonly place: WalPlace }> {
  const store = new MemoryStore();
  const place = { store, folder: WAL_FOLDER, sealer: undefined, keys: NO_KEYS };
  await openWalRecord(store, { ...WAL_FOLDER, segmentBytes }, operationContext());
  await putWalFile(place, pieceOf(SEGMENT, BYTES));
  const end = formatLsn(segmentStart(FORK, segmentBytes) + BigInt(FORK_AT));
  await putTimelineHistory(place, '00000002.history', Buffer.from(`1\t${end}\tno recovery target specified\n`));
  return { store, place };
}

async function ask(store: ObjectStore, name: string): Promise<Buffer | 'absent'> {
  await using directory = await makeTempDirectory();
  const target = directory.join('fetched');
  const request = { ...WAL_FOLDER, stores: [{ name: 'only', store }], keys: NO_KEYS, name, target };
  return (await fetchWal(request, operationContext())) === 'absent' ? 'absent' : await readFile(target);
}

test('a hole in front of a change of timelines is no end, whatever is archived behind it', async () => {
  const { store, place } = await archiveOfFailover();
  const hole = segmentName({ timeline: 1, number: 8n }, segmentBytes);
  const gap = { code: 'wal-gap', message: expect.stringMatching(/timeline 2 goes on behind it, from 0\/902328 on/) };
  await expect(ask(store, hole)).rejects.toMatchObject(gap);
  await putWalFile(place, pieceOf(FORK, madeSegment(FORK, { olderPages: 2 })));
  await expect(ask(store, hole)).rejects.toMatchObject(gap);
  // Timeline 1 has come to its end in the segment in which it was left, and behind it.
  expect(await ask(store, segmentName({ ...FORK, timeline: 1 }, segmentBytes))).toBe('absent');
  expect(await ask(store, segmentName({ timeline: 1, number: 10n }, segmentBytes))).toBe('absent');
  expect(await ask(store, segmentName({ timeline: 2, number: 8n }, segmentBytes))).toBe('absent');
  expect(await ask(store, segmentName({ timeline: 2, number: 10n }, segmentBytes))).toBe('absent');
});

test('a hole in front of a later change of timelines is found past those that are none of it', async () => {
  const { store, place } = await archiveOfFailover();
  const third = '1\t0/902328\tno recovery target specified\n\n2\t0/B00060\tno recovery target specified\n';
  await putTimelineHistory(place, '00000003.history', Buffer.from('1\t0/700060\tbefore consistency\n'));
  await putTimelineHistory(place, '00000004.history', Buffer.from(third));
  for (const number of [11n, 12n]) {
    const segment = { timeline: 3, number };
    await putWalFile(place, pieceOf(segment, madeSegment(segment)));
  }
  const asked = ask(store, segmentName({ timeline: 2, number: 10n }, segmentBytes));
  await expect(asked).rejects.toMatchObject({ code: 'wal-gap', message: expect.stringContaining('timeline 4') });
  expect(await ask(store, segmentName({ timeline: 2, number: 11n }, segmentBytes))).toBe('absent');
});

test('a history that is missing of a timeline whose WAL is there is a gap', async () => {
  const { store, place } = await archiveOfFailover();
  expect(await ask(store, '00000003.history')).toBe('absent');
  const segment = { timeline: 3, number: 12n };
  await putWalDelta(place, pieceOf(segment, madeSegment(segment), 0, 8_000));
  await expect(ask(store, '00000003.history')).rejects.toMatchObject({ code: 'wal-gap' });
});

test.each([
  ['less than the older timeline had in it', 8_000, segmentBytes, FORK_AT],
  ['nothing, and the older timeline a part', 0, 8_500, 8_500],
  ['nothing, and the older timeline all', 0, segmentBytes, FORK_AT],
  ['more than the older timeline had in it', 9_500, segmentBytes, 9_500],
  ['as much as the older timeline had in it', FORK_AT, segmentBytes, FORK_AT],
])(
  'of the segment in which a timeline begins with %s, what goes furthest is fetched',
  async (_, own, older, expected) => {
    const { store, place } = await archiveOfFailover();
    const before = { ...FORK, timeline: 1 };
    const old = madeSegment(before, { seed: 3 });
    const bytes = Buffer.concat([old.subarray(0, FORK_AT), madeSegment(FORK, { seed: 4 }).subarray(FORK_AT)]);
    await putWalFile(place, pieceOf({ timeline: 1, number: 8n }, madeSegment({ timeline: 1, number: 8n })));
    if (older === segmentBytes) await putWalFile(place, pieceOf(before, old));
    else await putWalDelta(place, pieceOf(before, old, 0, older));
    if (own > 0) await putWalDelta(place, pieceOf(FORK, bytes, 0, own));
    const content = await ask(store, segmentName(FORK, segmentBytes));
    const wanted = Buffer.concat([bytes.subarray(0, expected), Buffer.alloc(segmentBytes - expected)]);
    expect(Buffer.compare(content === 'absent' ? Buffer.alloc(0) : content, wanted)).toBe(0);
  },
);

test('of the segment in which a timeline begins a part of the older one is no end in front of more', async () => {
  const { store, place } = await archiveOfFailover();
  const before = { ...FORK, timeline: 1 };
  const old = madeSegment(before, { seed: 3 });
  await putWalFile(place, pieceOf({ timeline: 1, number: 8n }, madeSegment({ timeline: 1, number: 8n })));
  await putWalDelta(place, pieceOf(before, old, 0, 4_000));
  await putWalDelta(place, pieceOf(before, old, FORK_AT, 20_000));
  // What the older one has behind where it was left is not on the way.
  expect(await ask(store, segmentName(FORK, segmentBytes))).not.toBe('absent');
  await putWalDelta(place, pieceOf(before, old, 6_000, 8_000));
  await expect(ask(store, segmentName(FORK, segmentBytes))).rejects.toMatchObject({ code: 'wal-gap' });
});

test('a history with a byte that turned is refused by its name, and so is what follows from it', async () => {
  const { store, place } = await archiveOfFailover();
  const key = `shop/wal/${WAL_FOLDER.systemIdentifier}/00000002.history`;
  const { bytes } = store.objects.get(key) ?? {};
  expect(await ask(store, '00000002.history')).toEqual(Buffer.from(bytes ?? ''));
  const turned = Buffer.from(
    Buffer.from(bytes ?? '')
      .toString()
      .replace('0/902328', '0/802328'),
  );
  await store.putSmall(key, turned);
  const corrupt = { code: 'corrupt', message: expect.stringContaining(key) };
  await expect(ask(store, '00000002.history')).rejects.toMatchObject(corrupt);
  await expect(ask(store, segmentName(FORK, segmentBytes))).rejects.toMatchObject(corrupt);
  await expect(ask(store, segmentName({ timeline: 1, number: 8n }, segmentBytes))).rejects.toMatchObject(corrupt);
  // What the server has is no other history: the archived one is damaged.
  const own = Buffer.from(bytes ?? '');
  await expect(putTimelineHistory(place, '00000002.history', own)).rejects.toMatchObject(corrupt);
  // One that was archived without a digest is taken as it is, and gets one from whoever archives it again.
  await store.putSmall(key, own);
  await store.delete(`${key}.sha256`);
  expect(await ask(store, '00000002.history')).toEqual(own);
  expect(await putTimelineHistory(place, '00000002.history', own)).toBe('present');
  await store.putSmall(key, turned);
  await expect(ask(store, '00000002.history')).rejects.toMatchObject(corrupt);
});
