import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GIB, MIB } from '../../common/bytes.ts';
import { formatLsn, parseLsn } from './lsn.ts';
import {
  isSegmentBytes,
  isSegmentName,
  parseSegmentBytes,
  parseSegmentName,
  segmentAt,
  segmentEnd,
  segmentName,
  segmentStart,
  segmentStartAt,
} from './segment.ts';
import {
  endOf,
  formatTimelineHistory,
  historyFileName,
  parseHistoryFileName,
  parseTimelineHistory,
  timelineOf,
} from './timeline-history.ts';

/** All but the last segments of the log, which have no next one. */
const lsn = fc.bigInt({ min: 0n, max: 2n ** 64n - 2n ** 31n });
const segmentBytes = fc.integer({ min: 20, max: 30 }).map((power) => 2 ** power);
const timeline = fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 0xffff_ffff }));

describe('a position in the WAL', () => {
  test('is written as PostgreSQL does, and read back', () => {
    expect([formatLsn(0x3000028n), formatLsn(0xa2_f3000000n), formatLsn(0n)]).toEqual([
      '0/3000028',
      'A2/F3000000',
      '0/0',
    ]);
    fc.assert(
      fc.property(lsn, (at) => {
        expect(parseLsn(formatLsn(at))).toBe(at);
      }),
    );
    expect(parseLsn('a2/00000f3a')).toBe(0xa2_00000f3an);
  });

  test.each(['', '0', '1/2/3', 'G/0', '0/123456789', ' 0/1', '0x1/2'])('is not "%s"', (text) => {
    expect(() => parseLsn(text)).toThrow('is no position in the WAL');
  });
});

describe('the name of a segment', () => {
  test.each([
    [1, 0x100_0000n, 16 * MIB, '000000010000000000000001'],
    [1, 0xa2_f3ab_cdefn, 16 * MIB, '00000001000000A2000000F3'],
    [26, 0x1_0000_0000n, 16 * MIB, '0000001A0000000100000000'],
    [1, 0xffff_ffffn, MIB, '000000010000000000000FFF'],
    [1, 0x1_4000_0000n, GIB, '000000010000000100000001'],
    [2, 0x5_0400_0000n, 64 * MIB, '000000020000000500000001'],
  ])('of timeline %i at %d with %i bytes is %s', (onTimeline, at, bytes, name) => {
    expect(segmentName(segmentAt(onTimeline, at, bytes), bytes)).toBe(name);
  });

  test('says which one it is, whatever the size', () => {
    fc.assert(
      fc.property(timeline, lsn, segmentBytes, (onTimeline, at, bytes) => {
        const segment = segmentAt(onTimeline, at, bytes);
        const start = segmentStart(segment, bytes);
        expect(parseSegmentName(segmentName(segment, bytes), bytes)).toEqual(segment);
        expect(isSegmentName(segmentName(segment, bytes))).toBe(true);
        expect(segmentStartAt(at, bytes)).toBe(start);
        expect([start <= at, at < segmentEnd(segment, bytes)]).toEqual([true, true]);
        expect(segmentEnd(segment, bytes) - start).toBe(BigInt(bytes));
        const next = { timeline: onTimeline, number: segment.number + 1n };
        expect(segmentName(segment, bytes) < segmentName(next, bytes)).toBe(true);
      }),
    );
  });

  test.each([
    ['000000010000000000000001.partial', 16 * MIB],
    ['00000001000000000000000', 16 * MIB],
    ['00000001000000000000000g', 16 * MIB],
    ['00000001000000000000000a', 16 * MIB],
    ['000000000000000000000001', 16 * MIB],
    ['000000010000000000000100', 16 * MIB],
    ['000000010000000000000004', GIB],
  ])('is not %s', (name, bytes) => {
    expect(parseSegmentName(name, bytes)).toBeUndefined();
  });

  test('is of a size that initdb can make, as the server says it', () => {
    expect([parseSegmentBytes('16MB'), parseSegmentBytes('1GB'), parseSegmentBytes('1MB')]).toEqual([
      16 * MIB,
      GIB,
      MIB,
    ]);
    for (const text of ['', '16', '3MB', '2GB', '512kB', '16 MB']) expect(() => parseSegmentBytes(text)).toThrow(text);
    expect([isSegmentBytes(3 * MIB), isSegmentBytes(MIB / 2), isSegmentBytes(64 * MIB)]).toEqual([false, false, true]);
  });
});

const history = fc
  .record({
    timelines: fc.uniqueArray(fc.integer({ min: 1, max: 0xffff }), { minLength: 1, maxLength: 6 }),
    ends: fc.uniqueArray(lsn, { minLength: 6, maxLength: 6 }),
    reason: fc.constantFrom('no recovery target specified', 'before 2026-11-20 02:00:00+00', ''),
  })
  .map(({ timelines, ends, reason }) => {
    const ascending = timelines.sort((a, b) => a - b);
    const positions = ends.sort((a, b) => (a < b ? -1 : 1));
    return {
      timeline: ascending.at(-1) ?? 1,
      ancestors: ascending.slice(0, -1).map((each, index) => ({ timeline: each, end: positions[index] ?? 0n, reason })),
    };
  });

describe('the history of a timeline', () => {
  test('is read as PostgreSQL writes it', () => {
    const text = '1\t0/3000148\tno recovery target specified\n\n2\t1/A000060\tbefore 2026-11-20 02:00:00.1+00\n';
    const read = parseTimelineHistory(3, text);
    expect(read).toEqual({
      timeline: 3,
      ancestors: [
        { timeline: 1, end: 0x3000148n, reason: 'no recovery target specified' },
        { timeline: 2, end: 0x1_0a000060n, reason: 'before 2026-11-20 02:00:00.1+00' },
      ],
    });
    expect(formatTimelineHistory(read)).toBe(text);
    expect([0n, 0x3000147n, 0x3000148n, 0x1_0a000060n].map((at) => timelineOf(read, at))).toEqual([1, 1, 2, 3]);
    expect([1, 2, 3, 4].map((each) => endOf(read, each))).toEqual([0x3000148n, 0x1_0a000060n, undefined, undefined]);
  });

  test('is read as it was written', () => {
    fc.assert(
      fc.property(history, (made) => {
        expect(parseTimelineHistory(made.timeline, formatTimelineHistory(made))).toEqual(made);
      }),
    );
  });

  test('may have comments, and lines without a reason', () => {
    const { ancestors } = parseTimelineHistory(2, '# by hand\n\n  1 0/3000148\n');
    expect(ancestors).toEqual([{ timeline: 1, end: 0x3000148n, reason: '' }]);
  });

  test.each([
    ['one 0/1', 'names no timeline'],
    ['1', 'names no timeline'],
    ['2\t0/1\tx\n1\t0/2\tx', 'do not ascend'],
    ['1\t0/1\tx\n1\t0/2\tx', 'do not ascend'],
    ['5\t0/1\tx', 'names timeline 5 as an ancestor'],
  ])('is not %j', (text, why) => {
    expect(() => parseTimelineHistory(5, text)).toThrow(why);
  });

  test('has a name', () => {
    expect(historyFileName(26)).toBe('0000001A.history');
    expect(parseHistoryFileName('0000001A.history')).toBe(26);
    for (const name of ['0000001a.history', '00000001.history', '1A.history', '0000001A.history.gz']) {
      expect(parseHistoryFileName(name)).toBeUndefined();
    }
  });
});
