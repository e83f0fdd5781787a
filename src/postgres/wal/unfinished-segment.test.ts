import { describe, expect, test } from 'vitest';
import { LOG_SEGMENT_BYTES, LOG_START, MadeLog, PAGE_BYTES } from '../../../test/support/made-log.ts';
import { madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import type { Segment } from './segment.ts';
import { SegmentContent } from './segment-content.ts';
import { unfinishedBytes } from './unfinished-segment.ts';

const FIRST = { timeline: 1, number: LOG_START / BigInt(LOG_SEGMENT_BYTES) };
const SECOND = { timeline: 1, number: FIRST.number + 1n };
const SWITCH = [0, 0x40, undefined] as const;

/** A segment's file: the log's bytes, and behind them what was in the file before. */
function unfinished(
  log: MadeLog,
  { segment = FIRST, before }: { segment?: Segment; before?: Buffer } = {},
): number | undefined {
  const from = segment === FIRST ? 0 : LOG_SEGMENT_BYTES;
  const writtenBytes = Math.min(LOG_SEGMENT_BYTES, log.at - from);
  const content = new SegmentContent(segment, WAL_IDENTITY, { mayBeRecycled: true });
  content.append(log.bytes.subarray(from, from + writtenBytes));
  content.append((before ?? Buffer.alloc(LOG_SEGMENT_BYTES)).subarray(writtenBytes));
  return unfinishedBytes(content);
}

/** Records of many lengths, up to the position or a little farther. */
function filledUp(log: MadeLog, to: number): MadeLog {
  for (let i = 0; log.at < to; i += 1) log.record(10, 0, Buffer.alloc((i * 7919) % 3_000, 7));
  return log;
}

/** Its last record ends so many bytes before the end of the segment. */
function filledTo(restBytes: number): MadeLog {
  const log = filledUp(new MadeLog(), LOG_SEGMENT_BYTES - 2 * PAGE_BYTES);
  const dataBytes =
    LOG_SEGMENT_BYTES - restBytes - log.at - 24 * Math.floor((LOG_SEGMENT_BYTES - 1 - log.at) / PAGE_BYTES);
  log.record(10, 0, Buffer.alloc(dataBytes - 24 - 5));
  expect(log.at).toBe(LOG_SEGMENT_BYTES - restBytes);
  return log;
}

const OLDER = madeSegment({ timeline: 1, number: 1n });

describe('a segment is finished', () => {
  test('where its last record goes on in the next one', () => {
    expect(unfinished(filledUp(new MadeLog(), LOG_SEGMENT_BYTES + 1))).toBeUndefined();
  });

  test('where its last record ends with it, in zeros too', () => {
    expect(unfinished(filledTo(0))).toBeUndefined();
  });

  test('behind a switch, in its first pages or in its last one', () => {
    for (const log of [filledUp(new MadeLog(), 100_000), filledTo(64)]) {
      log.record(...SWITCH);
      expect(unfinished(log)).toBeUndefined();
    }
  });

  test.each([8, 16])('where a switch ends that began %i bytes before the segment', (restBytes) => {
    const log = filledTo(restBytes);
    log.record(...SWITCH);
    expect(log.at).toBe(LOG_SEGMENT_BYTES + 40 + 24 - restBytes);
    expect(unfinished(log)).toBeUndefined();
    expect(unfinished(log, { segment: SECOND })).toBeUndefined();
  });

  test('where it is damaged in its midst, and goes on', () => {
    const log = filledUp(new MadeLog(), 100_000);
    const lsn = log.record(10, 0, Buffer.alloc(100));
    filledUp(log, 200_000).record(...SWITCH);
    log.bytes.writeUInt8(1, Number(lsn - LOG_START) + 8);
    expect(unfinished(log)).toBeUndefined();
  });
});

describe('a segment is not finished, and as long as its records are', () => {
  test.each([0, 1, 2].map((kind) => [kind, 120_000 + 4_000 * kind] as const))(
    'where nothing follows (%i)',
    (_, bytes) => {
      const log = filledUp(new MadeLog(), bytes);
      expect(unfinished(log)).toBeGreaterThan(log.at - 8);
      expect(unfinished(log)).toBeLessThanOrEqual(log.at);
      expect(unfinished(log, { before: OLDER })).toBe(unfinished(log));
    },
  );

  test('where that is within its last page', () => {
    expect(unfinished(filledTo(64))).toBe(LOG_SEGMENT_BYTES - 64);
  });

  test('where its last record is torn, or cut off', () => {
    const log = filledUp(new MadeLog(), 120_000);
    const whole = log.at;
    const torn = Number(log.record(10, 0, Buffer.alloc(100, 7)) - LOG_START);
    log.bytes.fill(0, torn + 50, torn + 60);
    for (const before of [undefined, OLDER]) {
      expect(unfinished(log, before && { before })).toBeGreaterThan(whole - 8);
      expect(unfinished(log, before && { before })).toBeLessThanOrEqual(whole);
    }
    const cut = filledUp(new MadeLog(), 120_000);
    const end = unfinished(cut);
    cut.record(10, 0, Buffer.alloc(3 * PAGE_BYTES, 7));
    cut.at = (Math.floor(cut.at / PAGE_BYTES) - 1) * PAGE_BYTES;
    cut.bytes.fill(0, cut.at);
    expect(unfinished(cut)).toBe(end);
    expect(unfinished(cut, { before: OLDER })).toBe(end);
  });

  test('which is nothing where no record begins', () => {
    const log = filledTo(16);
    log.record(10, 0, Buffer.alloc(100, 7));
    expect(unfinished(log, { segment: SECOND })).toBe(0);
  });
});
