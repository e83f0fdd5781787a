import { describe, expect, test } from 'vitest';
import { recoveryOf, serverOptionsOf } from './recovery-options.ts';

const fetch = { commandFor: () => [], directory: '/', environment: {} };

describe('a recovery’s target', () => {
  test.each([
    [{}, { kind: 'end' }],
    [{ at: '2026-11-20T02:00:00.123456Z' }, { kind: 'time', time: 1_795_140_000_123_456n }],
    [{ at: '2026-11-20T02:00:00.5Z' }, { kind: 'time', time: 1_795_140_000_500_000n }],
    [{ at: '2026-11-20' }, { kind: 'time', time: 1_795_132_800_000_000n }],
    [{ lsn: 'a/1000028' }, { kind: 'lsn', lsn: 0xa01000028n }],
    [{ xid: '4294968007' }, { kind: 'xid', xid: 711 }],
    [{ restorePoint: 'before deploy' }, { kind: 'restore-point', name: 'before deploy' }],
  ])('is read from %j', (options, target) => {
    expect(recoveryOf(options, fetch)?.target).toEqual(target);
  });

  test('of a backup’s own end needs no archive', () => {
    expect(recoveryOf({ immediate: true }, fetch)).toBeUndefined();
  });

  test.each([
    [{ at: '2026-11-20', lsn: '0/1' }, 'one target'],
    [{ immediate: true, xid: '3' }, 'one target'],
    [{ immediate: true, timeline: '2' }, 'leave --timeline out'],
    [{ lsn: '3000028' }, 'no position'],
    [{ xid: '0' }, '--xid 0 is not a number'],
    [{ timeline: 'two' }, '--timeline two is not a number'],
  ])('is refused: %j', (options, words) => {
    expect(() => recoveryOf(options, fetch)).toThrow(words);
  });

  test('comes with what is said of the server', () => {
    expect(serverOptionsOf({ start: true, port: '5433', allowTablespacePaths: true })).toEqual({
      start: {},
      port: 5433,
      allowsTablespacePaths: true,
    });
    expect(serverOptionsOf({})).toEqual({ start: undefined, port: undefined, allowsTablespacePaths: false });
    expect(() => serverOptionsOf({ port: '70000' })).toThrow('--port 70000 is not a number from 1 to 65535');
  });
});
