import { describe, expect, test } from 'vitest';
import {
  LOG_SEGMENT_BYTES as SEGMENT,
  LOG_START as START,
  MadeLog,
  PAGE_BYTES as PAGE,
  TABLESPACE,
  tablespaceData,
} from '../../../test/support/made-log.ts';
import type { Landmark } from './record.ts';
import { RecordWalker } from './record-walker.ts';

const time = (us: bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(us);
  return bytes;
};

function walk(bytes: Uint8Array, pieceBytes: number): { found: Landmark[]; walker: RecordWalker } {
  const walker = new RecordWalker(START, SEGMENT);
  const found: Landmark[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) found.push(...walker.push(bytes.subarray(at, at + pieceBytes)));
  found.push(...walker.finish());
  return { found, walker };
}

describe('records of WAL', () => {
  test.each([1_000_000, PAGE, 5_001, 17])('are found whatever pieces they come in: %i bytes', (pieceBytes) => {
    const log = new MadeLog();
    const expected: unknown[] = [];
    for (let i = 0; i < 300; i += 1) {
      log.record(10, 0, Buffer.alloc((i * 7919) % 20_000, 7), i);
      const lsn = log.record(1, 0x80, Buffer.concat([time(BigInt(i)), Buffer.alloc(i)]), i);
      expected.push({ kind: 'commit', lsn, xid: i, time: 946_684_800_000_000n + BigInt(i) });
      if (log.at > SEGMENT / 2) break;
    }
    const name = Buffer.alloc(72);
    name.write('before it', 8);
    const point = log.record(0, 0x70, name);
    const { found, walker } = walk(log.bytes.subarray(0, log.at), pieceBytes);
    expect(found).toMatchObject([...expected, { kind: 'restore-point', lsn: point, name: 'before it' }]);
    expect(walker.last?.lsn).toBe(point);
    // The last one is not whole without its last byte.
    const cut = walk(log.bytes.subarray(0, Number((walker.last?.end ?? 0n) - START) - 1), pieceBytes);
    expect(cut.walker.last?.lsn).toBeLessThan(point);
  });

  test('go on behind a switch of segments, and behind what a crash cut off', () => {
    const log = new MadeLog();
    const first = log.record(1, 0x00, time(1n), 5);
    const lost = log.record(10, 0, Buffer.alloc(3 * PAGE, 9));
    log.cutOff(lost, first);
    log.record(1, 0x20, time(2n), 6);
    log.record(0, 0x40, Buffer.alloc(0));
    log.skipToNextSegment();
    const last = log.record(1, 0x30, time(3n));
    const { found, walker } = walk(log.bytes.subarray(0, log.at), 4_000);
    expect(found.map((each) => each.kind)).toEqual(['commit', 'abort', 'commit']);
    expect(walker.last?.lsn).toBe(last);
  });

  test('tell when a timeline began, by a promotion or by a checkpoint, and where a recovery may begin', () => {
    const log = new MadeLog();
    const promotion = Buffer.alloc(16);
    promotion.writeBigInt64LE(5n, 0);
    promotion.writeUInt32LE(3, 8);
    promotion.writeUInt32LE(2, 12);
    log.record(0, 0x90, promotion);
    const checkpoint = Buffer.alloc(88);
    checkpoint.writeUInt32LE(4, 8);
    checkpoint.writeUInt32LE(3, 12);
    checkpoint.writeBigInt64LE(1_800_000_000n, 64);
    log.record(0, 0x00, checkpoint);
    checkpoint.writeUInt32LE(4, 12);
    log.record(0, 0x00, checkpoint);
    log.record(0, 0xe0, Buffer.alloc(4));
    log.record(0, 0x10, checkpoint);
    const { found } = walk(log.bytes.subarray(0, log.at), PAGE);
    expect(found).toMatchObject([
      { kind: 'timeline', timeline: 3, time: 946_684_800_000_005n },
      { kind: 'timeline', timeline: 4, time: 1_800_000_000_000_000n },
      { kind: 'redo-point' },
      { kind: 'redo-point' },
    ]);
  });

  test('tell of each tablespace, also of the longest path and of none', () => {
    const log = new MadeLog();
    const { manager, info } = TABLESPACE;
    const paths = ['/srv/größe', '', `/${'x'.repeat(1_022)}`];
    const expected = paths.map((path, oid) => {
      log.fillTo(PAGE * (oid + 1) - 32);
      return { kind: 'tablespace', lsn: log.record(manager, info, tablespaceData(oid, path)), oid, path };
    });
    // It is dropped.
    log.record(manager, 0x10, Buffer.alloc(4));
    for (const pieceBytes of [PAGE, 17]) {
      const { found } = walk(log.bytes.subarray(0, log.at), pieceBytes);
      expect(found).toMatchObject(expected);
    }
    log.record(manager, info, Buffer.alloc(4));
    expect(() => walk(log.bytes.subarray(0, log.at), PAGE)).toThrow('makes a tablespace, and does not say where');
  });

  test.each<[string, (log: MadeLog, second: bigint) => void]>([
    ['a record is not the one that came before', (log, second) => log.bytes.writeUInt8(1, Number(second - START) + 8)],
    ['a record does not go on', (log) => log.bytes.writeUInt32LE(1, PAGE + 16)],
    ['a page is of another place', (log) => log.bytes.writeUInt32LE(1, PAGE + 8)],
    ['a page is empty', (log) => log.bytes.fill(0, PAGE, 2 * PAGE)],
    ['a record ends in nothing', (log, second) => log.bytes.writeUInt32LE(0, Number(second - START))],
  ])('are refused where %s', (_, damage) => {
    const log = new MadeLog();
    log.record(10, 0, Buffer.alloc(100));
    const second = log.record(10, 0, Buffer.alloc(100));
    log.record(10, 0, Buffer.alloc(2 * PAGE));
    log.record(10, 0, Buffer.alloc(100));
    damage(log, second);
    expect(() => walk(log.bytes.subarray(0, log.at), PAGE)).toThrow('the write-ahead log is broken at 0/3');
  });
});
