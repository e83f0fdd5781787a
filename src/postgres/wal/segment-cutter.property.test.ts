import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type MadeSegmentOptions, madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import { flipBit } from '../../../test/support/damage.ts';
import { MIB } from '../../common/bytes.ts';
import { SegmentContent } from './segment-content.ts';
import { SegmentCutter } from './segment-cutter.ts';
import { segmentStart } from './segment.ts';

const FIRST = { timeline: 3, number: 4095n };

const PAGE_BYTES = 8192;
const PAGES = MIB / PAGE_BYTES;

/** Of a position in a stream of segments: nothing counts of the head of a page that is there in part. */
function withoutPartOfHead(at: number): number {
  const inPage = at % PAGE_BYTES;
  return inPage < (at % MIB < PAGE_BYTES ? 40 : 24) ? at - inPage : at;
}

function contentOf(content: SegmentContent, from = 0, to = content.filledBytes): Buffer {
  return Buffer.concat([...content.views(from, to)]);
}

function filled(bytes: Uint8Array, identity = WAL_IDENTITY, segment = FIRST): SegmentContent {
  const content = new SegmentContent(segment, identity);
  content.append(bytes);
  return content;
}

describe('a stream of WAL', () => {
  const segments = [0n, 1n, 2n].map((index) => ({ timeline: 3, number: FIRST.number + index }));
  const stream = Buffer.concat(segments.map((segment) => madeSegment(segment)));
  const start = segmentStart(FIRST, MIB);

  test('is cut at the borders of segments, in whatever pieces it comes', () => {
    const pieceBytes = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 3 * MIB }));
    fc.assert(
      fc.property(fc.array(pieceBytes, { minLength: 1, maxLength: 30 }), (pieces) => {
        const full: SegmentContent[] = [];
        const cutter = new SegmentCutter(3, start, WAL_IDENTITY, (content) => full.push(content));
        let at = 0;
        for (const bytes of pieces) {
          cutter.append(start + BigInt(at), stream.subarray(at, at + bytes));
          at = Math.min(stream.length, at + bytes);
        }
        const checked = withoutPartOfHead(at);
        expect(cutter.end).toBe(start + BigInt(checked));
        const parts = [...full, cutter.current];
        expect(Buffer.concat(parts.map((part) => contentOf(part))).equals(stream.subarray(0, checked))).toBe(true);
        expect(full.map(({ name }) => name)).toEqual(
          ['000000030000000000000FFF', '000000030000000100000000', '000000030000000100000001'].slice(0, full.length),
        );
        expect(full.length).toBe(Math.floor(at / MIB));
        for (const part of parts) part.release();
      }),
      { numRuns: 60 },
    );
  });

  test('is good up to the page that is damaged, in whatever pieces it comes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3 * PAGES - 1 }),
        // The fields that each page has: magic number, timeline, address.
        fc.constantFrom(0, 1, 4, 8, 10),
        fc.integer({ min: 1, max: 3 * MIB }),
        (page, field, pieceBytes) => {
          const damaged = Buffer.from(stream);
          flipBit(damaged, page * PAGE_BYTES + field);
          const full: SegmentContent[] = [];
          const cutter = new SegmentCutter(3, start, WAL_IDENTITY, (content) => full.push(content));
          const bound = start + BigInt(page * PAGE_BYTES);
          const appendAll = (): void => {
            // What comes long before the damage need not come in millions of pieces.
            let at = pieceBytes < PAGE_BYTES ? Math.max(0, page - 2) * PAGE_BYTES : 0;
            cutter.append(start, damaged.subarray(0, at));
            for (; at < stream.length; at += pieceBytes) {
              cutter.append(start + BigInt(at), damaged.subarray(at, at + pieceBytes));
              if (cutter.end > bound) throw new Error(`${cutter.end} is beyond ${bound}`);
            }
          };
          expect(appendAll).toThrow(/is damaged/);
          expect(cutter.end).toBe(bound);
          const parts = [...full, cutter.current];
          const good = Buffer.concat(parts.map((part) => contentOf(part)));
          expect(good.equals(stream.subarray(0, page * PAGE_BYTES))).toBe(true);
          for (const part of parts) part.release();
        },
      ),
      { numRuns: 40 },
    );
  });

  test('is refused where it does not go on from', () => {
    const cutter = new SegmentCutter(3, start, WAL_IDENTITY, () => undefined);
    cutter.append(start, stream.subarray(0, 10_000));
    for (const lsn of [start, start + 9_999n, start + 10_001n]) {
      expect(() => cutter.append(lsn, stream.subarray(0, 1))).toThrow('where that of 0/FFF02710 follows');
    }
  });
});

describe('the content of a segment', () => {
  const large = { ...WAL_IDENTITY, segmentBytes: 4 * MIB };
  const segment = { timeline: 3, number: 7n };

  test('is read from anywhere to anywhere', () => {
    const bytes = madeSegment(segment, { identity: large });
    const content = filled(bytes, large, segment);
    const offset = fc.integer({ min: 0, max: bytes.length });
    fc.assert(
      fc.property(offset, offset, (a, b) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        expect(contentOf(content, from, to).equals(bytes.subarray(from, to))).toBe(true);
      }),
    );
  });

  test.each<[string, MadeSegmentOptions]>([
    ['a new timeline', { olderPages: 20 }],
    ['a switch of segments, zeros up to the end', { usedPages: 3 }],
  ])('may hold %s', (_, options) => {
    const bytes = madeSegment(FIRST, options);
    expect(contentOf(filled(bytes)).equals(bytes)).toBe(true);
  });

  const page = (bytes: Buffer, number: number): Buffer => bytes.subarray(number * 8192);
  test.each<[string, string, (bytes: Buffer) => unknown]>([
    ['another version’s pages', 'magic number is 0xD118, not 0xD110', (bytes) => page(bytes, 5).writeUInt16LE(0xd118)],
    ['pages of elsewhere', 'belongs to 0/BAD0000', (bytes) => page(bytes, 5).writeBigUInt64LE(0xbad0000n, 8)],
    ['pages of a later timeline', 'of timeline 4, in WAL of timeline 3', (bytes) => page(bytes, 5).writeUInt32LE(4, 4)],
    ['an older timeline again', 'of timeline 2, in WAL of timeline 3', (bytes) => page(bytes, 127).writeUInt32LE(2, 4)],
    ['WAL after its end', 'follows one that was not written', (bytes) => page(bytes, 5).fill(0, 0, 8192)],
    ['zeros from its start', 'has not the long header', (bytes) => bytes.fill(0)],
    ['another server’s WAL', 'of the server 42, not of 73800', (bytes) => bytes.writeBigUInt64LE(42n, 24)],
    ['segments of another size', 'segments of 16777216 bytes', (bytes) => bytes.writeUInt32LE(16 * MIB, 32)],
    ['pages of no server', 'has pages of 3 bytes', (bytes) => bytes.writeUInt32LE(3, 36)],
  ])('is refused if it holds %s', (_, why, damage) => {
    const bytes = madeSegment(FIRST);
    damage(bytes);
    for (const bytesAtOnce of [bytes.length, 999]) {
      const content = new SegmentContent(FIRST, WAL_IDENTITY);
      const appendAll = (): void => {
        for (let at = 0; at < bytes.length; at += bytesAtOnce) content.append(bytes.subarray(at, at + bytesAtOnce));
      };
      expect(appendAll).toThrow(why);
    }
  });

  test('has the pages of one version, whichever it is, where that is not known before', () => {
    const unknown = { ...WAL_IDENTITY, magic: undefined };
    const bytes = madeSegment(FIRST, { identity: { ...WAL_IDENTITY, magic: 0xd1ff } });
    expect(filled(bytes, unknown).isFull).toBe(true);
    page(bytes, 9).writeUInt16LE(0xd118);
    expect(() => filled(bytes, unknown)).toThrow('magic number is 0xD118, not 0xD1FF');
  });
});
