import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { noise } from '../../../test/support/streams.ts';
import { FrameReader } from '../protocol/frame-reader.ts';
import { formatServerTime } from '../wal/server-time.ts';
import { statusUpdate, type WalHandler, WalMessages } from './wal-messages.ts';

/** 2026-11-20T02:00:00.000007Z in microseconds since 2000. */
const TIME = 848_455_200_000_007n;

function walData(lsn: bigint, wal: Uint8Array): Buffer {
  const head = Buffer.alloc(25);
  head.write('w');
  head.writeBigUInt64BE(lsn, 1);
  head.writeBigUInt64BE(lsn + 1_000n, 9);
  head.writeBigInt64BE(TIME, 17);
  return Buffer.concat([head, wal]);
}

function keepalive(end: bigint, reply: boolean): Buffer {
  const content = Buffer.alloc(18);
  content.write('k');
  content.writeBigUInt64BE(end, 1);
  content.writeBigInt64BE(TIME, 9);
  content.writeUInt8(Number(reply), 17);
  return content;
}

function framed(content: Uint8Array): Buffer {
  const header = Buffer.alloc(5);
  header.write('d');
  header.writeInt32BE(content.length + 4, 1);
  return Buffer.concat([header, content]);
}

/** What a handler is told of the messages, whose bytes come in pieces of the given lengths. */
function heard(messages: readonly Uint8Array[], pieceBytes: readonly number[]) {
  const wal: { lsn: bigint; bytes: Buffer }[] = [];
  const told: [bigint, string][] = [];
  const sent: [bigint, string, boolean][] = [];
  let replies = 0;
  const handler: WalHandler = {
    wal: (lsn, bytes) => {
      const last = wal.at(-1);
      if (last !== undefined && last.lsn + BigInt(last.bytes.length) === lsn) {
        last.bytes = Buffer.concat([last.bytes, bytes]);
      } else wal.push({ lsn, bytes: Buffer.from(bytes) });
    },
    told: (end, time) => told.push([end, formatServerTime(time)]),
    sent: (end, time, isAnswer) => sent.push([end, formatServerTime(time), isAnswer]),
    replyWanted: () => (replies += 1),
  };
  const reader = new WalMessages(handler);
  const frames = new FrameReader({
    copyData: (chunk, start, end, begins) => reader.copyData(chunk, start, end, begins),
    message: () => false,
  });
  const stream = Buffer.concat(messages.map(framed));
  for (let at = 0, turn = 0; at < stream.length; turn += 1) {
    const bytes = pieceBytes[turn % pieceBytes.length] ?? 1;
    frames.push(stream.subarray(at, at + bytes));
    at += bytes;
  }
  return { wal, told, sent, replies };
}

describe('messages of a WAL sender', () => {
  test('are read in whatever pieces they come', () => {
    const [one, two, three] = [noise(1), noise(20_000, 2), noise(333, 3)];
    const messages = [
      keepalive(5n, false),
      walData(0x3000000n, one),
      walData(0x3000001n, two),
      keepalive(0x2_0000_0000n, true),
      walData(0x9000000n, three),
      walData(0x9000000n + 333n, Buffer.alloc(0)),
      keepalive(7n, true),
    ];
    const time = '2026-11-20T02:00:00.000007Z';
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 6_000 }), { minLength: 1, maxLength: 20 }), (pieceBytes) => {
        const { wal, told, sent, replies } = heard(messages, pieceBytes);
        expect(wal.map(({ lsn, bytes }) => [lsn, bytes.length])).toEqual([
          [0x3000000n, 20_001],
          [0x9000000n, 333],
        ]);
        expect(Buffer.concat(wal.map(({ bytes }) => bytes)).equals(Buffer.concat([one, two, three]))).toBe(true);
        expect(told).toEqual([
          [0x30003e8n, time],
          [0x30003e9n, time],
          [0x90003e8n, time],
          [0x9000535n, time],
        ]);
        expect(sent).toEqual([
          [5n, time, true],
          [0x2_0000_0000n, time, false],
          [7n, time, false],
        ]);
        expect(replies).toBe(2);
      }),
    );
  });

  test.each<[string, Buffer[]]>([
    ['its type is 0x78', [Buffer.from('x')]],
    ['it is cut off', [walData(1n, Buffer.alloc(0)).subarray(0, 24), keepalive(1n, false)]],
    ['it is cut off', [keepalive(1n, false).subarray(0, 17), keepalive(1n, false)]],
    ['it is too long', [Buffer.concat([keepalive(1n, false), Buffer.alloc(1)])]],
  ])('are refused: %s', (why, messages) => {
    for (const pieceBytes of [1, 1_000]) expect(() => heard(messages, [pieceBytes])).toThrow(why);
  });
});

test('a status says what was received and what lasts, and nothing of what was applied', () => {
  const status = { written: 0x3000028n, flushed: 0n, at: new Date('2026-11-20T02:00:00.000Z'), asks: false };
  const content = Buffer.from(statusUpdate(status));
  expect(content.toString('latin1', 0, 1)).toBe('r');
  expect([1, 9, 17, 25].map((at) => content.readBigUInt64BE(at))).toEqual([0x3000028n, 0n, 0n, TIME - 7n]);
  expect([content[33], content.length]).toEqual([0, 34]);
  expect(statusUpdate({ ...status, asks: true })[33]).toBe(1);
});
