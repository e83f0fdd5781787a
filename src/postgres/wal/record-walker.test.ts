import { describe, expect, test } from 'vitest';
import type { Landmark } from './record.ts';
import { RecordWalker } from './record-walker.ts';

const PAGE = 8192;
const SEGMENT = 2 ** 20;
const START = BigInt(SEGMENT) * 3n;

/** A log as a server writes it, in memory: records one after another, with the heads of pages between. */
class MadeLog {
  readonly bytes = Buffer.alloc(2 * SEGMENT);
  at = 0;
  #before = 0n;

  get lsn(): bigint {
    return START + BigInt(this.at);
  }

  /** Returns where it begins. */
  record(manager: number, info: number, data: Buffer, xid = 0): bigint {
    const header = Buffer.alloc(24);
    const main = data.length < 256 ? Buffer.from([255, data.length]) : Buffer.from([254, 0, 0, 0, 0]);
    if (data.length >= 256) main.writeUInt32LE(data.length, 1);
    const record = Buffer.concat([header, main, data]);
    record.writeUInt32LE(record.length, 0);
    record.writeUInt32LE(xid, 4);
    record.writeBigUInt64LE(this.#before, 8);
    record.writeUInt8(info, 16);
    record.writeUInt8(manager, 17);
    if (this.at % PAGE === 0) this.#head(0, 0);
    const lsn = this.lsn;
    this.#before = lsn;
    for (let done = 0; done < record.length; ) {
      if (this.at % PAGE === 0) this.#head(1, record.length - done);
      const piece = record.subarray(done, done + PAGE - (this.at % PAGE));
      this.bytes.set(piece, this.at);
      this.at += piece.length;
      done += piece.length;
    }
    this.at = Math.ceil(this.at / 8) * 8;
    return lsn;
  }

  /** As a crash does: what was written of the last record stays, and the next one begins a page. */
  cutOff(lsn: bigint, before: bigint): void {
    this.at = Number(lsn - START) + PAGE - (Number(lsn - START) % PAGE);
    this.bytes.fill(0, this.at);
    this.#before = before;
    this.#head(8, 0);
  }

  skipToNextSegment(): void {
    this.at = SEGMENT;
  }

  #head(flags: number, rest: number): void {
    const isFirst = this.at % SEGMENT === 0;
    this.bytes.writeUInt16LE(0xd110, this.at);
    this.bytes.writeUInt16LE(flags | (isFirst ? 2 : 0), this.at + 2);
    this.bytes.writeUInt32LE(1, this.at + 4);
    this.bytes.writeBigUInt64LE(START + BigInt(this.at), this.at + 8);
    this.bytes.writeUInt32LE(rest, this.at + 16);
    if (isFirst) {
      this.bytes.writeUInt32LE(SEGMENT, this.at + 32);
      this.bytes.writeUInt32LE(PAGE, this.at + 36);
    }
    this.at += isFirst ? 40 : 24;
  }
}

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
