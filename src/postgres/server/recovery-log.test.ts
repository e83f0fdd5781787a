import { describe, expect, test } from 'vitest';
import { readRecoveryLog } from './recovery-log.ts';

const START = '2026-11-20 02:00:00 UTC [1] LOG:  starting PostgreSQL 17.6';

describe('the log of a server that recovers', () => {
  test.each([
    ['2026-11-20 04:00:00.123456+02', '2026-11-20T02:00:00.123456Z'],
    ['2026-11-20 02:00:00.5+00', '2026-11-20T02:00:00.500000Z'],
    ['2026-11-20 07:30:01+05:30', '2026-11-20T02:00:01.000000Z'],
    ['2026-11-19 22:00:00-04', '2026-11-20T02:00:00.000000Z'],
  ])('says when the last transaction was committed: %s', (text, expected) => {
    const log = `${START}\nLOG:  redo done at 0/2D000060 system usage: x\nLOG:  last completed transaction was at log time ${text}\n`;
    expect(readRecoveryLog(log)).toEqual({ redoneAt: '0/2D000060', lastTransaction: expected });
  });

  test('tells what could not be fetched first, and of the last start only', () => {
    const before = `${START}\nerror  old\n  hint older\nFATAL:  long ago\nLOG:  redo done at 0/1\n`;
    const now = `${START}\nerror  a/b.zst: damaged\n  hint restore another\nFATAL:  could not restore file "x"\nLOG:  shut down\n`;
    expect(readRecoveryLog(before + now)).toMatchObject({
      redoneAt: undefined,
      failure: 'a/b.zst: damaged; could not restore file "x"',
      hint: 'restore another',
    });
  });

  test('tells the error for which the server got no WAL, and ended', () => {
    const failed = `${START}\nwal fetch failed: store-unreachable\n`;
    const fatal =
      'FATAL:  could not restore file "0000000100000000000000AB" from archive: child process exited with 126\n';
    expect(readRecoveryLog(`${failed}${fatal}`).fetchError).toBe('store-unreachable');
    expect(readRecoveryLog(`${failed}FATAL:  out of memory\n`).fetchError).toBeUndefined();
    expect(readRecoveryLog(`${failed}${fatal}${START}\nFATAL:  no\n`).fetchError).toBeUndefined();
  });

  test('tells why a recovery waits for somebody', () => {
    const log = `${START}\nWARNING:  hot standby is not possible because of insufficient parameter settings\nDETAIL:  max_connections = 20 is a lower setting than on the primary server, where its value was 200.\nCONTEXT:  WAL redo at 0/5000028\nLOG:  recovery has paused\nHINT:  Restart the server.\nLOG:  restartpoint starting\n`;
    expect(readRecoveryLog(log).failure).toBe(
      'its recovery has paused; hot standby is not possible because of insufficient parameter settings; max_connections = 20 is a lower setting than on the primary server, where its value was 200.',
    );
  });

  test('has a hint for what happens often, and the server’s own for the rest', () => {
    expect(
      readRecoveryLog(`${START}\nLOG:  could not bind IPv4 address\nFATAL:  could not create any TCP/IP sockets`).hint,
    ).toContain('--port');
    expect(readRecoveryLog(`${START}\nFATAL:  no\nHINT:  Try yes.`)).toMatchObject({ failure: 'no', hint: 'Try yes.' });
  });
});
