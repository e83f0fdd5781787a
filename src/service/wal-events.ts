import { errorTable } from '../common/error-table.ts';
import type { NotificationEvent, Problem } from '../notify/message.ts';
import { judgeWal, type WalProblem, type WalProtection } from '../observability/wal-protection.ts';

/** `wal-lag`: WAL is archived in time; `wal-slot`: the slot holds back little. */
type Ended = 'wal_lag' | 'wal_slot';

/**
 * What is wrong with the archiving of WAL, as something to tell; and what is surely right, so that what was told of it before is
 * over. That WAL is lost is told when it is (`wal_gap`).
 */
export function walEvents(wal: readonly WalProtection[], now: Date): readonly NotificationEvent[] {
  return wal.flatMap((each) => {
    const { problems, isArchivedInTime, isSlotFree } = judgeWal(each, now);
    const ended: readonly Ended[] = [
      ...(isArchivedInTime ? (['wal_lag'] as const) : []),
      ...(isSlotFree ? (['wal_slot'] as const) : []),
    ];
    return [
      ...problems.flatMap((problem) => problemEvents(each, problem, now)),
      ...ended.map((of) => ({ event: 'resolved' as const, of, at: now, source: each.source })),
    ];
  });
}

function problemEvents(wal: WalProtection, problem: WalProblem, now: Date): readonly Problem[] {
  const { kind, storage, sentence, failure } = problem;
  if (kind === 'base') return [];
  const code = kind === 'lag' ? 'wal-lag' : (failure?.code ?? 'wal-slot');
  const hint = failure?.hint ?? errorTable[kind === 'lag' ? 'wal-lag' : 'wal-slot'].remedy;
  return [
    {
      event: kind === 'lag' ? 'wal_lag' : 'wal_slot',
      at: now,
      source: wal.source,
      ...(storage === undefined ? {} : { storage }),
      error: { code, message: sentence, hint },
      ...(wal.latest === undefined ? {} : { archivedUntil: wal.latest }),
    },
  ];
}
