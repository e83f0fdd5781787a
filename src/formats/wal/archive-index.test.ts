import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
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
  const store = new MemoryStore();
  for (const each of objects) {
    await store.putSmall(walKey(FOLDER, each, each.kind === 'history' ? '' : '.zst'), Buffer.from('ten bytes.'));
  }
  await store.putSmall('shop/wal/421/00000001/000000010000000000000001.zst', Buffer.from('another server'));
  return indexWal(store, FOLDER, MIB);
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

  test('takes deltas for nothing beside their whole segment, and where their beginning is missing', async () => {
    expect(await rangesOf(delta(1, 0, 512), segment(1), delta(1, 512, 1024), segment(2))).toEqual({
      1: [[1, 3, 3, 2, 20]],
    });
    expect(await rangesOf(segment(1), delta(2, 512, 1024))).toEqual({ 1: [[1, 2, 2, 1, 10]] });
    expect(await rangesOf(segment(1), delta(2, 0, 2 * MIB))).toEqual({ 1: [[1, 2, 2, 1, 10]] });
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
});
