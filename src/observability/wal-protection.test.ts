import { describe, expect, test } from 'vitest';
import { at, REFUSAL, walOf } from '../../test/support/protection.ts';
import { MIB } from '../common/bytes.ts';
import { judgeWal, type WalProtection } from './wal-protection.ts';

const MINUTE_MS = 60_000;
const now = at('2026-11-21T12:00:00Z');
const ago = (minutes: number): Date => new Date(now.getTime() - minutes * MINUTE_MS);

function judged(said: Partial<WalProtection>) {
  return judgeWal(walOf(said), now);
}

/** What a receiver that has worked for a day says of two storages. */
function received(minutes: number, said: Partial<WalProtection> = {}): Partial<WalProtection> {
  const lagMs = minutes * MINUTE_MS;
  const storages = [
    { storage: 'r2', lagMs },
    { storage: 'nas', lagMs },
  ];
  return { watchedSince: ago(1_440), lagMs, storages, ...said };
}

describe('WAL', () => {
  test('may wait for a restart, a failover, or a storage that is left after five minutes; then it is late', () => {
    for (const minutes of [0, 1, 5, 10, 15]) expect(judged(received(minutes))).toMatchObject({ problems: [] });
    const { problems, isArchivedInTime } = judged(received(16, { lagBytes: 3 * MIB }));
    expect(problems).toEqual([
      {
        kind: 'lag',
        sentence: 'nothing committed since 2026-11-21T11:44:00Z is known to be archived (16 min 00 s, 3.0 MiB)',
      },
    ]);
    expect(isArchivedInTime).toBe(false);
  });

  test('may wait longer where the configuration lets it', () => {
    const flushMs = 60 * MINUTE_MS;
    expect(judged(received(70, { flushMs })).problems).toEqual([]);
    expect(judged(received(76, { flushMs })).problems).toHaveLength(1);
  });

  test('says why it is late: the server, or a storage', () => {
    const unreachable = { code: 'postgres-unreachable', message: 'connection refused', hint: 'start it' };
    expect(judged(received(20, { failure: unreachable })).problems).toMatchObject([
      { sentence: expect.stringMatching(/: connection refused$/), failure: unreachable },
    ]);
    const storages = [{ storage: 'r2', lagMs: 20 * MINUTE_MS, refuses: { since: ago(19), failure: REFUSAL } }];
    expect(judged(received(20, { storages })).problems).toMatchObject([
      { sentence: expect.stringMatching(/: r2: AccessDenied \(403\)$/), failure: REFUSAL },
    ]);
  });

  test('that one storage lacks is late there alone', () => {
    const refusing = (minutes: number) => [
      { storage: 'r2', lagMs: 0 },
      { storage: 'nas', lagMs: minutes * MINUTE_MS, refuses: { since: ago(minutes), failure: REFUSAL } },
    ];
    expect(judged(received(0, { storages: refusing(15) })).problems).toEqual([]);
    const { problems, isArchivedInTime } = judged(received(0, { storages: refusing(16) }));
    expect(problems).toEqual([
      {
        kind: 'lag',
        storage: 'nas',
        sentence: 'nas: it has refused WAL, or lacked some, since 2026-11-21T11:44:00Z: AccessDenied (403)',
        failure: REFUSAL,
      },
    ]);
    expect(isArchivedInTime).toBe(false);
    expect(judged(received(0, { storages: refusing(1) })).isArchivedInTime).toBe(false);
  });

  test('is not late while a process that has just begun works off what has waited, which it says', () => {
    const { problems, notes, isArchivedInTime } = judged(received(600, { watchedSince: ago(4) }));
    expect(problems).toEqual([]);
    expect(notes).toEqual(['nothing committed since 2026-11-21T02:00:00Z is known to be archived (10 h 00 min)']);
    expect(isArchivedInTime).toBe(false);
    expect(judged(received(600, { watchedSince: ago(6) })).problems).toHaveLength(1);
  });

  test('of which nobody knows how far it is counts from when the process began, and for a command is late', () => {
    const nothing = { lagMs: undefined, storages: [{ storage: 'r2', lagMs: undefined }] };
    expect(judged({ ...nothing, watchedSince: ago(15) }).problems).toEqual([]);
    const late = [{ kind: 'lag', sentence: 'no WAL is known to be archived' }];
    expect(judged({ ...nothing, watchedSince: ago(16) }).problems).toMatchObject(late);
    expect(judged({ ...nothing, watchedSince: undefined }).problems).toMatchObject(late);
    expect(judged(nothing).isArchivedInTime).toBe(false);
  });

  test('is not forgiven until a clock that was put back has come there again', () => {
    const ahead = ago(-720);
    expect(judged(received(600, { watchedSince: ahead })).problems).toHaveLength(1);
    const nothing = { lagMs: undefined, storages: [{ storage: 'r2', lagMs: undefined }], watchedSince: ahead };
    expect(judged(nothing).problems).toHaveLength(1);
    const storages = [{ storage: 'nas', lagMs: 0, refuses: { since: ahead, failure: REFUSAL } }];
    expect(judged(received(0, { storages })).problems).toHaveLength(1);
  });

  test('that no receiver notes is no problem, and never passes for well', () => {
    const storages = [{ storage: 'r2', lagMs: 180 * MINUTE_MS, isGuess: true }];
    expect(judged({ lagMs: 180 * MINUTE_MS, storages })).toMatchObject({
      problems: [],
      notes: ['r2: WAL came last 3 h 00 min ago, and no receiver notes whether the server has written any since'],
      isArchivedInTime: false,
    });
    const fresh = [{ storage: 'r2', lagMs: 0, isGuess: true }];
    expect(judged({ lagMs: 0, storages: fresh })).toMatchObject({ problems: [], notes: [], isArchivedInTime: false });
    expect(judged(received(0, { isGuess: true })).isArchivedInTime).toBe(false);
  });

  test('is in time again only well below the limit, so that nothing goes to and fro', () => {
    expect(judged(received(4)).isArchivedInTime).toBe(true);
    expect(judged(received(10)).isArchivedInTime).toBe(false);
  });
});

describe('the slot', () => {
  const slot = (retained: number) =>
    ({ name: 'pgark_shop', retainedBytes: retained * MIB, limitBytes: 64 * MIB, state: 'fine' }) as const;

  test('is a problem while there is an alarm, which is over below sixty percent of what it may hold back', () => {
    const of = (mib: number) => judged(received(0, { slot: slot(mib) }));
    expect(of(38)).toMatchObject({ problems: [], isSlotFree: true });
    expect(of(47)).toMatchObject({ problems: [], isSlotFree: false });
    expect(judged(received(0, { slot: { ...slot(48), state: 'alarm' } }))).toMatchObject({
      problems: [
        {
          kind: 'slot',
          sentence: 'the replication slot pgark_shop holds back 48.0 MiB of WAL on the server, of 64.0 MiB at the most',
        },
      ],
      isSlotFree: false,
    });
  });

  test('may hold back anything where nothing limits it', () => {
    const unlimited = { ...slot(64_000), limitBytes: undefined };
    expect(judged(received(0, { slot: unlimited }))).toMatchObject({ problems: [], isSlotFree: true });
  });

  test('that was lost, or cannot be dropped, is a problem however little it holds back', () => {
    const kept = { code: 'wal-slot-kept', message: 'it could not be dropped', hint: 'drop it by hand' };
    expect(judged(received(0, { slot: { ...slot(0), state: 'lost' } }))).toMatchObject({
      problems: [{ kind: 'slot', sentence: expect.stringContaining('has let go of WAL') }],
      isSlotFree: false,
    });
    expect(judged(received(0, { slot: { ...slot(0), kept } }))).toMatchObject({
      problems: [{ kind: 'slot', sentence: 'it could not be dropped', failure: kept }],
      isSlotFree: false,
    });
  });

  test('that nobody can see is not said to be free', () => {
    expect(judged({ slot: undefined }).isSlotFree).toBe(false);
  });
});

test('WAL that is lost is a problem until a base backup follows it', () => {
  expect(judged(received(0, { baseWantedFrom: '0/7000000' })).problems).toEqual([
    {
      kind: 'base',
      sentence: 'WAL is lost, and no base backup follows: nothing from 0/7000000 on can be recovered',
    },
  ]);
});
