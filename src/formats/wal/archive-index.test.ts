import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../../test/support/faulty-store.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { MIB } from '../../common/bytes.ts';
import { segmentName } from '../../postgres/wal/segment.ts';
import { walKey, type WalName } from '../../repository/wal-keys.ts';
import { chainOfDeltas, indexWal, type WalIndex } from './archive-index.ts';
import { gapsBetween, isArchived, stretchesTowards } from './recovery-path.ts';

const FOLDER = { source: 'shop', systemIdentifier: '42' };
const M = BigInt(MIB);

function segment(number: number, timeline = 1): WalName {
  return { kind: 'segment', name: segmentName({ timeline, number: BigInt(number) }, MIB) };
}

function delta(number: number, from: number, to: number, timeline = 1): WalName {
  return { kind: 'delta', name: segmentName({ timeline, number: BigInt(number) }, MIB), from, to };
}

async function index(...objects: readonly WalName[]): Promise<WalIndex> {
  return indexWal(await storeOf(objects), FOLDER, MIB);
}

async function storeOf(objects: readonly WalName[]): Promise<MemoryStore> {
  const store = new MemoryStore();
  for (const each of objects) {
    await store.putSmall(walKey(FOLDER, each, each.kind === 'history' ? '' : '.zst'), Buffer.from('ten bytes.'));
  }
  await store.putSmall('shop/wal/421/00000001/000000010000000000000001.zst', Buffer.from('another server'));
  return store;
}

/** `[from, wholeTo, to, segments, storedBytes]`, positions in MiB. */
async function rangesOf(...objects: readonly WalName[]): Promise<unknown> {
  const { ranges } = await index(...objects);
  return Object.fromEntries(
    [...ranges].map(([timeline, all]) => [
      timeline,
      all.map(({ from, wholeTo, to, segments, storedBytes }) => [
        ...[from, wholeTo, to].map((at) => Number(at) / MIB),
        segments,
        storedBytes,
      ]),
    ]),
  );
}

describe('the index of an archive', () => {
  test('joins segments that follow each other', async () => {
    expect(await rangesOf()).toEqual({});
    expect(await rangesOf(segment(4095), segment(4096), segment(4097), segment(4099))).toEqual({
      1: [
        [4095, 4098, 4098, 3, 30],
        [4099, 4100, 4100, 1, 10],
      ],
    });
  });

  test('adds deltas of the segment that is not whole yet', async () => {
    const half = MIB / 2;
    expect(await rangesOf(segment(1), delta(2, 0, half), delta(2, half, half + 1024))).toEqual({
      1: [[1, 2, 2.5 + 1 / 1024, 1, 30]],
    });
    expect(await rangesOf(delta(2, 0, half), delta(2, half, half * 1.5))).toEqual({ 1: [[2, 2, 2.75, 0, 20]] });
  });

  test('takes deltas for nothing beside their whole segment, and such as go beyond their segment', async () => {
    expect(await rangesOf(delta(1, 0, 512), segment(1), delta(1, 512, 1024), segment(2))).toEqual({
      1: [[1, 3, 3, 2, 20]],
    });
    expect(await rangesOf(segment(1), delta(2, 0, 2 * MIB))).toEqual({ 1: [[1, 2, 2, 1, 10]] });
  });

  test('shows deltas behind one that is missing as what they are: behind a gap', async () => {
    const kib = 1 / 1024;
    const first = [1, 2, 2 + kib, 1, 20];
    const behind = [2 + 2 * kib, 2, 2 + 4 * kib, 0, 20];
    const [begin, ...rest] = [delta(2, 0, 1024), delta(2, 2048, 3072), delta(2, 3000, 4096)];
    expect(await rangesOf(segment(1), begin, ...rest)).toEqual({ 1: [first, behind] });
    expect(await rangesOf(segment(1), ...rest)).toEqual({ 1: [[1, 2, 2, 1, 10], behind] });
    expect(await rangesOf(...rest)).toEqual({ 1: [behind] });
    expect(await rangesOf(segment(1), begin, ...rest, segment(3))).toEqual({ 1: [first, behind, [3, 4, 4, 1, 10]] });
    // A receiver that began anew sends from the start of the segment again, and stops anywhere.
    expect(await rangesOf(segment(1), begin, delta(2, 0, 2500), ...rest)).toEqual({
      1: [[1, 2, 2 + 4 * kib, 1, 40]],
    });
    // A whole segment has what is missing too.
    expect(await rangesOf(segment(1), begin, ...rest, segment(2))).toEqual({ 1: [[1, 3, 3, 2, 20]] });
  });

  test('keeps timelines apart, and other files out', async () => {
    const history: WalName = { kind: 'history', name: '00000002.history' };
    const label: WalName = { kind: 'file', name: `${segment(3).name}.00000028.backup` };
    const partial: WalName = { kind: 'file', name: `${segment(2).name}.partial` };
    expect(await rangesOf(segment(1), partial, segment(2, 2), history, label)).toEqual({
      1: [[1, 2, 2, 1, 10]],
      2: [[2, 3, 3, 1, 10]],
    });
    expect((await index(history)).histories).toEqual([2]);
  });
});

describe('deltas that are removed while they are listed', () => {
  const small = [0, 1, 2, 3].map((at) => delta(2, at * 512, (at + 1) * 512));
  const together = delta(2, 0, 3 * 512);

  /** The listing of all shows what is given; any behind it what is there then. */
  async function whileListed(shown: readonly WalName[], ...then: readonly (readonly WalName[])[]): Promise<WalIndex> {
    const looks = await Promise.all([shown, ...then].map(storeOf));
    let lists = 0;
    const store = new FaultyStore(new MemoryStore());
    store.list = (prefix, options) => {
      const look = looks[Math.min(lists, looks.length - 1)];
      lists += 1;
      return (look ?? store).list(prefix, options);
    };
    return indexWal(store, FOLDER, MIB);
  }

  function endOf({ ranges }: WalIndex): unknown {
    return ranges.get(1)?.map(({ from, to }) => [Number(from) / MIB, Number(to) / MIB]);
  }

  test('since they were put together are no gap', async () => {
    const [first, , , last] = small;
    const torn = [first, last].filter((each) => each !== undefined);
    const once = await whileListed([segment(1), ...torn], [segment(1), together, ...torn]);
    expect(endOf(once)).toEqual([[1, 2 + 2 / 1024]]);
    const twice = await whileListed([segment(1), ...torn], [segment(1), ...torn.slice(1)], [together, ...torn]);
    expect(endOf(twice)).toEqual([[1, 2 + 2 / 1024]]);
  });

  test('since their segment is whole are no gap', async () => {
    const settled = await whileListed([segment(1), ...small.slice(2)], [segment(1), segment(2)]);
    expect(endOf(settled)).toEqual([[1, 3]]);
  });

  test('with all that is there of their segment are not there', async () => {
    expect(endOf(await whileListed([segment(1), ...small.slice(2)], [segment(1)]))).toEqual([[1, 2]]);
  });

  test('are a gap where nothing takes their place', async () => {
    expect(endOf(await whileListed([segment(1), ...small.slice(2)]))).toEqual([
      [1, 2],
      [2 + 1 / 1024, 2 + 2 / 1024],
    ]);
  });
});

test('a chain of deltas reaches as far as their union does from the start', () => {
  const edge = fc.integer({ min: 0, max: 30 });
  const made = fc.tuple(edge, edge).map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) + 1 }));
  fc.assert(
    fc.property(fc.array(made, { maxLength: 12 }), (deltas) => {
      const covered = new Set(
        deltas.flatMap(({ from, to }) => Array.from({ length: to - from }, (_, at) => from + at)),
      );
      let reach = 0;
      while (covered.has(reach)) reach += 1;
      const chain = chainOfDeltas(deltas);
      expect(chain.at(-1)?.to ?? 0).toBe(reach);
      let at = 0;
      for (const { from, to } of chain) {
        expect([from <= at, to > at]).toEqual([true, true]);
        at = to;
      }
    }),
  );
});

describe('the way towards a timeline', () => {
  const first = { timeline: 1, ancestors: [] };
  /** Timeline 1 ended in the midst of segment 3. */
  const second = { timeline: 2, ancestors: [{ timeline: 1, end: 3n * M + 500n, reason: '' }] };

  test('goes through the segment in which a timeline ended, as the next one has it', async () => {
    const all = await index(segment(1), segment(2), segment(3, 2), segment(4, 2));
    expect(stretchesTowards(all, second)).toEqual([{ from: M, to: 5n * M }]);
    expect(stretchesTowards(all, first)).toEqual([{ from: M, to: 3n * M }]);
  });

  test('leaves out what a timeline went on with after it was left', async () => {
    const all = await index(segment(1), segment(2), segment(3), segment(4), segment(5), segment(6, 2));
    const stretches = stretchesTowards(all, second);
    expect(stretches).toEqual([
      { from: M, to: 3n * M + 500n },
      { from: 6n * M, to: 7n * M },
    ]);
    expect(gapsBetween(stretches)).toEqual([{ from: 3n * M + 500n, to: 6n * M }]);
  });

  test('has gaps where a segment is missing', async () => {
    const all = await index(segment(1), segment(3), segment(4), segment(6), delta(7, 0, 512));
    expect(gapsBetween(stretchesTowards(all, first))).toEqual([
      { from: 2n * M, to: 3n * M },
      { from: 5n * M, to: 6n * M },
    ]);
    expect(isArchived(all, first, { from: 3n * M + 8n, to: 5n * M })).toBe(true);
    expect(isArchived(all, first, { from: 3n * M, to: 5n * M + 1n })).toBe(false);
    expect(isArchived(all, first, { from: 2n * M + 9n, to: 4n * M })).toBe(false);
    expect(isArchived(all, first, { from: 6n * M, to: 7n * M + 512n })).toBe(true);
  });

  test('has a gap where a delta is missing in front of others, of which nothing can be read', async () => {
    const all = await index(segment(1), delta(2, 0, 512), delta(2, 1024, 2048));
    expect(gapsBetween(stretchesTowards(all, first))).toEqual([{ from: 2n * M + 512n, to: 2n * M + 1024n }]);
    expect(isArchived(all, first, { from: M, to: 2n * M + 512n })).toBe(true);
    expect(isArchived(all, first, { from: 2n * M + 1024n, to: 2n * M + 2048n })).toBe(false);
  });

  test('has no gap where one is missing behind the position at which a timeline was left', async () => {
    const left = await index(segment(1), segment(2), delta(3, 0, 600), delta(3, 1024, 2048), delta(3, 0, 700, 2));
    expect(stretchesTowards(left, second)).toEqual([{ from: M, to: 3n * M + 700n }]);
    // Nor where the next one has it too.
    const repeated = await index(segment(1), segment(2), delta(3, 0, 100), delta(3, 300, 600), delta(3, 0, 700, 2));
    expect(stretchesTowards(repeated, second)).toEqual([{ from: M, to: 3n * M + 700n }]);
    expect(gapsBetween(stretchesTowards(repeated, first))).toHaveLength(1);
  });
});
