import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { MIB } from '../../common/bytes.ts';
import { segmentName } from '../../postgres/wal/segment.ts';
import { walKey, type WalName } from '../../repository/wal-keys.ts';
import { type ArchivePlace, archiveEnd, firstMissing } from './start-position.ts';

const FOLDER = { source: 'shop', systemIdentifier: '42' };
const M = BigInt(MIB);

/** A store with the segments `timeline:number`; one with `+` is there as a delta. */
async function archive(...names: readonly string[]): Promise<ArchivePlace & { listed: () => number }> {
  const store = new MemoryStore();
  for (const each of names) {
    const [timeline = 0, number = 0] = each.split(':').map((part) => Number.parseInt(part, 10));
    const name = segmentName({ timeline, number: BigInt(number) }, MIB);
    const wal: WalName = each.endsWith('+') ? { kind: 'delta', name, from: 0, to: 512 } : { kind: 'segment', name };
    await store.putSmall(walKey(FOLDER, wal, '.zst.age'), Buffer.from('x'));
  }
  let count = 0;
  const list = store.list.bind(store);
  store.list = async function* (prefix, options) {
    for await (const info of list(prefix, options)) {
      count += 1;
      yield info;
    }
  };
  return { store, folder: FOLDER, segmentBytes: MIB, listed: () => count };
}

const alone = { timeline: 1, ancestors: [] };
/** Timeline 1 ended in the midst of segment 5, timeline 2 at the start of segment 8. */
const third = {
  timeline: 3,
  ancestors: [
    { timeline: 1, end: 5n * M + 300n, reason: '' },
    { timeline: 2, end: 8n * M, reason: '' },
  ],
};

describe('the first segment that is missing', () => {
  test.each([
    [['1:3', '1:4'], 3, 5],
    [['1:3', '1:4'], 1, 1],
    [['1:3', '1:5', '1:6'], 3, 4],
    [['1:3', '1:5', '1:6'], 5, 7],
    [['1:3', '1:4+'], 3, 4],
    [['1:4096', '1:4097'], 4096, 4098],
    [[], 7, 7],
    [['1:0', '1:1'], 0, 2],
  ] as const)('of %j from %i on is %i', async (names, from, missing) => {
    const place = await archive(...names);
    const found = await firstMissing(place, alone, BigInt(from) * M + 17n, {});
    expect(found).toEqual({ timeline: 1, lsn: BigInt(missing) * M });
  });

  test.each([
    // What timeline 1 went on with after it was left counts for nothing.
    [['1:3', '1:4', '1:5', '1:6'], 3, 2, 5],
    [['1:3'], 3, 1, 4],
    [['1:3', '1:4', '2:5', '2:6'], 3, 2, 7],
    [['1:3', '1:4', '2:5', '2:6', '2:7'], 3, 3, 8],
    [['1:3', '1:4', '2:5', '2:6', '2:7', '3:8'], 3, 3, 9],
    [['2:7'], 7, 3, 8],
    [['1:4'], 5, 2, 5],
  ] as const)('of %j from %i on is on timeline %i: %i', async (names, from, timeline, missing) => {
    const place = await archive(...names);
    expect(await firstMissing(place, third, BigInt(from) * M, {})).toEqual({ timeline, lsn: BigInt(missing) * M });
  });
});

describe('the end of an archive', () => {
  test('is that of its last whole segment, whatever is missing before', async () => {
    expect(await archiveEnd(await archive(), alone, undefined, {})).toBeUndefined();
    expect(await archiveEnd(await archive('1:1+'), alone, undefined, {})).toBe(M);
    expect(await archiveEnd(await archive('1:1', '1:3', '1:4', '1:5+'), alone, undefined, {})).toBe(5n * M);
  });

  test('is found by a hint without listing everything', async () => {
    const names = Array.from({ length: 50 }, (_, number) => `1:${number}`);
    const place = await archive(...names, '1:50+');
    for (const lsn of [48n * M, 50n * M, 50n * M + 512n]) {
      expect(await archiveEnd(place, alone, { timeline: 1, lsn }, {})).toBe(50n * M);
    }
    expect(place.listed()).toBeLessThan(15);
  });

  test('is found in spite of a hint that is wrong', async () => {
    const place = await archive('1:1', '1:2');
    for (const timeline of [1, 7]) {
      expect(await archiveEnd(place, alone, { timeline, lsn: 40n * M }, {})).toBe(3n * M);
    }
  });

  test('is no later than where a timeline was left', async () => {
    expect(await archiveEnd(await archive('1:4', '1:5', '1:6', '9:30'), third, undefined, {})).toBe(5n * M + 300n);
    const hint = { timeline: 1, lsn: 7n * M };
    expect(await archiveEnd(await archive('1:4', '1:5', '1:6'), third, hint, {})).toBe(5n * M);
    expect(await archiveEnd(await archive('1:4', '2:5', '2:6'), third, undefined, {})).toBe(7n * M);
  });
});
