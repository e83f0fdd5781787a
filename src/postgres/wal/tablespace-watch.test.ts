import { describe, expect, test } from 'vitest';
import {
  LOG_SEGMENT_BYTES as SEGMENT,
  LOG_START as START,
  MadeLog,
  PAGE_BYTES as PAGE,
  TABLESPACE,
  tablespaceData,
} from '../../../test/support/made-log.ts';
import { formatLsn, LSN_MAX } from './lsn.ts';
import { type ReplayedSpan, TablespaceWatch } from './tablespace-watch.ts';

const { manager, info } = TABLESPACE;
const ALL = { from: 0n, to: LSN_MAX };

/** Each segment by itself, as it is fetched; the last one as far as it goes. */
function watch(log: MadeLog, replayed: ReplayedSpan = ALL, pieceBytes = 5_000): void {
  for (let start = 0; start < log.at; start += SEGMENT) {
    const segment = log.bytes.subarray(start, Math.min(log.at, start + SEGMENT));
    const watching = new TablespaceWatch(replayed);
    for (let at = 0; at < segment.length; at += pieceBytes) watching.push(segment.subarray(at, at + pieceBytes));
    watching.finish();
  }
}

describe('segments on their way to a server that recovers', () => {
  // From one that is whole in the first segment to one that is whole in the second.
  const places = Array.from({ length: 14 }, (_, index) => SEGMENT - 8 * index).map((at) => [at - SEGMENT, at] as const);

  test.each(places)('are refused for a tablespace that begins %i bytes from the border of two', (_, at) => {
    for (const pieceBytes of [SEGMENT, 5_000, 13]) {
      const log = new MadeLog();
      log.fillTo(at);
      const lsn = log.record(manager, info, tablespaceData(16_400, '/srv/ts'));
      expect(lsn).toBe(at === SEGMENT ? START + BigInt(SEGMENT + 40) : START + BigInt(at));
      log.record(10, 0, Buffer.alloc(100));
      const refused = { code: 'tablespace-path', message: expect.stringContaining(`at ${formatLsn(lsn)} `) };
      expect(() => watch(log, ALL, pieceBytes)).toThrow(expect.objectContaining(refused));
      expect(() => watch(log, { from: lsn, to: lsn + 1n }, pieceBytes)).toThrow(expect.objectContaining(refused));
      expect(() => watch(log, { from: 0n, to: lsn }, pieceBytes)).not.toThrow();
      expect(() => watch(log, { from: lsn + 1n, to: LSN_MAX }, pieceBytes)).not.toThrow();
    }
  });

  test.each(places)('pass with one in the data directory, %i bytes from the border, and with what is none', (_, at) => {
    const made = new MadeLog();
    made.fillTo(at);
    made.record(manager, info, tablespaceData(16_400, ''));
    watch(made);
    const dropped = new MadeLog();
    dropped.fillTo(at);
    dropped.record(manager, 0x10, tablespaceData(16_400, '/srv/ts'));
    watch(dropped);
  });

  test.each([8, 16])('pass with a switch that begins in the last %i bytes of the one before', (bytes) => {
    for (const pieceBytes of [SEGMENT, 5_000, 13]) {
      const log = new MadeLog();
      log.fillTo(SEGMENT - bytes);
      log.record(0, 0x40, undefined);
      // All of the next one is the switch's.
      log.at = 2 * SEGMENT;
      watch(log, ALL, pieceBytes);
    }
  });

  test('tell of a path of any length, wherever it is cut', () => {
    const path = `/srv/${'x'.repeat(900)}`;
    for (const at of [SEGMENT - 8, SEGMENT - 16]) {
      const log = new MadeLog();
      log.fillTo(at);
      log.record(manager, info, tablespaceData(16_400, path));
      expect(() => watch(log)).toThrow(path);
    }
  });

  test('need not be a log behind all that is replayed, and have to be one before that', () => {
    const log = new MadeLog();
    log.record(10, 0, Buffer.alloc(100));
    const end = log.record(10, 0, Buffer.alloc(3 * PAGE));
    log.record(manager, info, tablespaceData(16_400, '/srv/ts'));
    const after = log.record(10, 0, Buffer.alloc(3 * PAGE));
    const behind = START + BigInt(log.at);
    log.record(10, 0, Buffer.alloc(2 * PAGE));
    log.bytes.fill(0xee, Number(behind - START) + 4, log.at);
    watch(log, { from: 0n, to: end + 1n });
    // What came before the damage is seen all the same.
    expect(() => watch(log, { from: 0n, to: after + 1n }, SEGMENT)).toThrow('makes a tablespace at /srv/ts');
    expect(() => watch(log, { from: after, to: LSN_MAX })).toThrow('the write-ahead log is broken');
    watch(log, { from: after, to: after + 1n });
  });

  test('are looked through once where pieces of them overlap', () => {
    const log = new MadeLog();
    log.record(10, 0, Buffer.alloc(4 * PAGE));
    log.record(manager, info, tablespaceData(16_400, '/srv/ts'));
    const watching = new TablespaceWatch(ALL);
    watching.push(log.bytes.subarray(0, 3 * PAGE + 5), 0);
    watching.push(log.bytes.subarray(PAGE, 3 * PAGE), PAGE);
    watching.push(log.bytes.subarray(2 * PAGE, log.at), 2 * PAGE);
    expect(() => watching.finish()).toThrow('makes a tablespace at /srv/ts');
  });
});
