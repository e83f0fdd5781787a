import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { damagedBytes, refusedOr } from '../../../test/support/damage.ts';
import { formatTimelineHistory, parseTimelineHistory } from './timeline-history.ts';
import { RecordWalker } from './record-walker.ts';

const PAGE_BYTES = 8_192;
const SEGMENT_BYTES = 2 ** 20;
const START = BigInt(SEGMENT_BYTES) * 3n;

/** Two pages of records as a server writes them, one of which goes on from the first page to the second. */
function madePages(): Buffer {
  const pages = Buffer.alloc(2 * PAGE_BYTES);
  const header = (at: number, flags: number, rest: number): void => {
    pages.writeUInt16LE(0xd110, at);
    pages.writeUInt16LE(flags, at + 2);
    pages.writeUInt32LE(1, at + 4);
    pages.writeBigUInt64LE(START + BigInt(at), at + 8);
    pages.writeUInt32LE(rest, at + 16);
  };
  let before = 0n;
  const record = (at: number, bytes: number): void => {
    pages.writeUInt32LE(bytes, at);
    pages.writeUInt32LE(700 + (at % 9), at + 4);
    pages.writeBigUInt64LE(before, at + 8);
    pages[at + 16] = [0x00, 0x30, 0x40, 0x70][at % 4] ?? 0;
    pages[at + 17] = at % 3;
    before = START + BigInt(at);
  };
  header(0, 2, 0);
  pages.writeBigUInt64LE(7_380_000_000_000_000_001n, 24);
  pages.writeUInt32LE(SEGMENT_BYTES, 32);
  pages.writeUInt32LE(PAGE_BYTES, 36);
  let at = 40;
  for (; at + 400 < PAGE_BYTES; at += 208) record(at, 201);
  const rest = 304;
  record(at, PAGE_BYTES - at + rest);
  header(PAGE_BYTES, 1, rest);
  for (let next = PAGE_BYTES + 24 + rest; next + 400 < 2 * PAGE_BYTES; next += 208) record(next, 201);
  return pages;
}

describe('WAL that was changed', () => {
  test('is walked through as far as it is one, in whatever pieces it comes, or refused with a sentence', async () => {
    const whole = madePages();
    const walked = new RecordWalker(START, SEGMENT_BYTES);
    walked.push(whole);
    walked.finish();
    expect(walked.last).toBeDefined();
    await fc.assert(
      fc.asyncProperty(damagedBytes(whole), fc.integer({ min: 1, max: 20_000 }), async (bytes, step) => {
        await refusedOr(() => {
          const walker = new RecordWalker(START, SEGMENT_BYTES);
          for (let at = 0; at < bytes.length; at += step) walker.push(bytes.subarray(at, at + step));
          walker.finish();
          const { last } = walker;
          if (last !== undefined) expect(last.lsn).toBeLessThan(last.end);
        });
      }),
      { numRuns: 500 },
    );
  });
});

describe('the history of a timeline that was changed', () => {
  const whole = Buffer.from('1\t0/3000028\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-11-20\n');

  test('is read, in order and before its own timeline, or refused as damaged', async () => {
    const text = fc.oneof(
      damagedBytes(whole).map((bytes) => bytes.toString()),
      fc.string(),
      fc
        .array(fc.constantFrom('1', '2', '\t', '0/3000028', '\n', '#', ' ', '/', 'F'.repeat(20)), { maxLength: 30 })
        .map((parts) => parts.join('')),
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 5 }), text, async (timeline, content) => {
        const history = await refusedOr(() => parseTimelineHistory(timeline, content));
        if (history === undefined) return;
        const numbers = history.ancestors.map((each) => each.timeline);
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
        for (const number of numbers) expect(number).toBeLessThan(timeline);
        const again = parseTimelineHistory(timeline, formatTimelineHistory(history));
        expect(again.ancestors.map(({ timeline: number, end }) => [number, end])).toEqual(
          history.ancestors.map(({ timeline: number, end }) => [number, end]),
        );
      }),
      { numRuns: 1_000 },
    );
  });

  test.each([
    ['a position that is none', '1\tFFFFFFFFF/0\tx\n'],
    ['a timeline beyond all numbers', `${'9'.repeat(400)}\t0/3000028\n`],
  ])('with %s is damaged', (_what, text) => {
    expect(() => parseTimelineHistory(2, text)).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });

  test('is read in one go, however long a line is made of blanks', () => {
    // A minute, if each blank were tried as the last one.
    const line = `1\t0/3000028${' '.repeat(200_000)}a\u2028b`;
    expect(parseTimelineHistory(2, line).ancestors).toHaveLength(1);
  });
});
