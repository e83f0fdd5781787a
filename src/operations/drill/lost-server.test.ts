import { tmpdir } from 'node:os';
import { describe, expect, test } from 'vitest';
import { PgarkError } from '../../common/errors.ts';
import { ofLostServer } from './lost-server.ts';

const ROOM = 'could not write to file "pg_wal/xlogtemp.7": No space left on device';
const REFUSALS =
  `2026-11-20 02:00:01.000 UTC [9] postgres@shop FATAL:  the database system is in recovery mode\n`.repeat(90);

const told = (code: 'postgres-unreachable' | 'restore-failed' | 'corrupt', log: string): Promise<unknown> => {
  const server = { logTail: (charsMax = 0) => Promise.resolve(log.slice(-charsMax).trim()) };
  return ofLostServer('the backup', new PgarkError(code, 'the connection broke'), server, tmpdir());
};

describe('a server of a drill that ended in mid-load', () => {
  test.each([
    [`[7] PANIC:  ${ROOM}`, ROOM],
    [`[7] postgres@shop PANIC:  ${ROOM}`, ROOM],
    ['[7] LOG:  server process (PID 8) was terminated by signal 9: Killed', 'terminated by signal 9: Killed'],
  ])('lacked something of its machine: %s', async (line, words) => {
    const escaped = words.replace(/[.*+?^()[\]]/g, '\\$&');
    for (const code of ['postgres-unreachable', 'restore-failed'] as const) {
      expect(await told(code, `2026-11-20 02:00:00.000 UTC ${line}\n${REFUSALS}`)).toMatchObject({
        code: 'drill-impossible',
        message: expect.stringMatching(
          new RegExp(`^the backup cannot be tried here: .* has ended: .*${escaped}; the disk of .* free$`),
        ),
        hint: expect.stringContaining('--work-dir'),
      });
    }
  });

  test('said so behind lines of any length, each of which is read a few times alone', async () => {
    // Words that a search could begin at again and again, in all that is read of a log.
    for (const word of ['[1] ', 'FATAL: ', '[7] FATAL: ', 'LOG: ']) {
      const long = word.repeat(Math.floor(200_000 / word.length));
      expect(await told('restore-failed', `${long}\n[7] PANIC:  ${ROOM}`)).toMatchObject({ code: 'drill-impossible' });
    }
  });

  test('said something else last, which is told in place of the network', async () => {
    expect(
      await told('postgres-unreachable', '[7] LOG:  before\n[7] LOG:  database system is shut down'),
    ).toMatchObject({
      code: 'drill-impossible',
      message: expect.stringContaining('has ended: [7] LOG:  database system is shut down; the disk of'),
    });
  });

  test('is no excuse for what the load failed with otherwise', async () => {
    expect(await told('corrupt', `[7] PANIC:  ${ROOM}`)).toMatchObject({ code: 'corrupt' });
    expect(await told('restore-failed', '[7] LOG:  server process (PID 8) was terminated by signal 11')).toMatchObject({
      code: 'restore-failed',
    });
    for (const line of [
      `[7] LOG:  FATAL: ${ROOM}`,
      '[7] FATAL:  terminated by signal 9',
      `PANIC:  ${ROOM}`,
      `[x] PANIC:  ${ROOM}`,
    ]) {
      expect(await told('restore-failed', line)).toMatchObject({ code: 'restore-failed' });
    }
    // What a statement says stands in lines of its own.
    expect(await told('restore-failed', `[7] LOG:  said\n\t[7] PANIC:  ${ROOM}`)).toMatchObject({
      code: 'restore-failed',
    });
  });
});
