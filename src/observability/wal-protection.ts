import { formatBytes, formatDuration } from '../common/bytes.ts';
import { time } from './times.ts';

/** How the archiving of a source's WAL goes, by its receiver or by what lies in the storages. What is not known is missing. */
export interface WalProtection {
  readonly source: string;
  /** Since when this process looks after it; undefined: it is a command, which looks once. */
  readonly watchedSince: Date | undefined;
  /** WAL may wait for so long by the configuration before it is stored. */
  readonly flushMs: number;
  /** From the first to the second of these moments, by the server's clock, any can be recovered to. */
  readonly earliest: Date | undefined;
  readonly latest: Date | undefined;
  /** How long ago it was that all that was committed was archived, in a storage at least. */
  readonly lagMs: number | undefined;
  /** No receiver has said so, here or elsewhere: segments came last so long ago. */
  readonly isGuess?: boolean | undefined;
  /** WAL that the server has written and that is not archived. */
  readonly lagBytes: number | undefined;
  readonly gaps: number | undefined;
  /** What all of it takes in the storage. */
  readonly storedBytes: number | undefined;
  readonly storages: readonly WalStorage[];
  /** Why none is received at present. */
  readonly failure: WalFailure | undefined;
  readonly slot: WalSlot | undefined;
  /** Where WAL is lost that recovery came to, and no base backup follows: nothing from there on can be recovered. */
  readonly baseWantedFrom: string | undefined;
}

export interface WalStorage {
  readonly storage: string;
  /** How long ago it was that it had all that was committed. Undefined: not known, or it has nothing. */
  readonly lagMs: number | undefined;
  /** No receiver has said how far that is: segments came last so long ago, and whether the server has more nobody knows. */
  readonly isGuess?: boolean | undefined;
  /** It does not take WAL, or the others went on without it. */
  readonly refuses?: { readonly since: Date; readonly failure: WalFailure } | undefined;
}

/** What the server keeps for the replication slot. */
export interface WalSlot {
  readonly name: string;
  readonly retainedBytes: number | undefined;
  /** As much as it may be, by the budget or by the server's own limit. */
  readonly limitBytes: number | undefined;
  /** As whoever watches it judges: from three quarters of the limit on there is an alarm; `lost`: the server has let go of what it was to keep. */
  readonly state: 'fine' | 'alarm' | 'over' | 'lost';
  /** Why it could not be dropped, although it holds back more than it may. */
  readonly kept?: WalFailure | undefined;
}

/** What went wrong, and what to do about it. */
export interface WalFailure {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** One thing that is wrong. */
export interface WalProblem {
  /** `lag`: something is not archived in time; `slot`: the server keeps too much of it; `base`: a base backup has to follow. */
  readonly kind: 'lag' | 'slot' | 'base';
  /** The one that is concerned, where others are well. */
  readonly storage?: string | undefined;
  /** Without the name of the source. */
  readonly sentence: string;
  /** What is behind it. */
  readonly failure?: WalFailure | undefined;
}

export interface WalJudgement {
  readonly problems: readonly WalProblem[];
  /** Not as it should be, or not to be seen from here; no problem. */
  readonly notes: readonly string[];
  /** Whether it is known to be far from each of them: what was told is over. */
  readonly isArchivedInTime: boolean;
  readonly isSlotFree: boolean;
}

/**
 * What is not archived for longer than this, and the time of a flush, is late. A restart of the server, a failover or a
 * storage that is away for some minutes do not last so long, and of several storages one is waited for five minutes.
 */
export const LATE_MS = 15 * 60_000;
/** What was late is in time again below this. */
const IN_TIME_MS = 5 * 60_000;
/** A process that has just begun has this time to work off what has waited for it; until then problems are notes. */
const BEGIN_MS = 5 * 60_000;
/** The alarm of a slot is over below this share of what it may hold back. */
const SLOT_FREE_RATIO = 0.6;

/** Pure: the same for the daemon, for commands and for notifications. */
export function judgeWal(wal: WalProtection, now: Date): WalJudgement {
  const problems = [...lagProblems(wal, now), ...slotProblems(wal), ...baseProblems(wal)];
  const notes = guesses(wal);
  const isEarly = isBeginning(wal, now);
  return {
    problems: isEarly ? [] : problems,
    notes: isEarly ? [...problems.map(({ sentence }) => sentence), ...notes] : notes,
    isArchivedInTime: isArchivedInTime(wal),
    isSlotFree: isSlotFree(wal.slot),
  };
}

/** Whether whoever watches over it has begun so lately that nothing is held against it yet. */
export function isBeginning({ watchedSince }: Pick<WalProtection, 'watchedSince'>, now: Date): boolean {
  return watchedSince !== undefined && elapsedMs(watchedSince, now) < BEGIN_MS;
}

function lagProblems(wal: WalProtection, now: Date): readonly WalProblem[] {
  const limitMs = lateAfterMs(wal);
  const { storages, failure } = wal;
  const certain = storages.filter(({ isGuess }) => isGuess !== true);
  const refused = storages.flatMap(({ storage, refuses }) =>
    refuses === undefined ? [] : [{ storage, failure: refuses.failure }],
  );
  if (isLate(wal.lagMs, wal, now) && (storages.length === 0 || certain.length > 0)) {
    const why = [
      ...(failure === undefined ? [] : [failure.message]),
      ...refused.map(({ storage, failure: { message } }) => `${storage}: ${message}`),
    ];
    const reason = why.length === 0 ? '' : `: ${why.join('; ')}`;
    const sentence = `${sinceWhen(wal.lagMs, wal.lagBytes, now)}${reason}`;
    return [{ kind: 'lag', sentence, failure: failure ?? refused[0]?.failure }];
  }
  return certain.flatMap(({ storage, lagMs, refuses }): readonly WalProblem[] => {
    const refusedMs = refuses === undefined ? 0 : elapsedMs(refuses.since, now);
    if (!isLate(lagMs, wal, now) && refusedMs <= limitMs) return [];
    const what =
      refuses === undefined
        ? sinceWhen(lagMs, undefined, now)
        : `it has refused WAL, or lacked some, since ${time(refuses.since)}: ${refuses.failure.message}`;
    return [{ kind: 'lag', storage, sentence: `${storage}: ${what}`, failure: refuses?.failure }];
  });
}

/** Of what nothing is known, there is nothing, unless whoever watches has not had the time to find out. */
function isLate(lagMs: number | undefined, wal: WalProtection, now: Date): boolean {
  const { watchedSince } = wal;
  const ms = lagMs ?? (watchedSince === undefined ? Infinity : elapsedMs(watchedSince, now));
  return ms > lateAfterMs(wal);
}

/** What lies ahead was before a clock was put back: nobody waits until it has come there again. */
function elapsedMs(since: Date, now: Date): number {
  return Math.abs(now.getTime() - since.getTime());
}

function lateAfterMs({ flushMs }: WalProtection): number {
  return LATE_MS + flushMs;
}

function sinceWhen(lagMs: number | undefined, lagBytes: number | undefined, now: Date): string {
  if (lagMs === undefined) return 'no WAL is known to be archived';
  const since = new Date(now.getTime() - lagMs);
  const bytes = lagBytes === undefined || lagBytes === 0 ? '' : `, ${formatBytes(lagBytes)}`;
  return `nothing committed since ${time(since)} is known to be archived (${formatDuration(lagMs)}${bytes})`;
}

function slotProblems({ slot }: WalProtection): readonly WalProblem[] {
  if (slot === undefined) return [];
  const { name, retainedBytes = 0, limitBytes, state, kept } = slot;
  if (kept !== undefined) return [{ kind: 'slot', sentence: kept.message, failure: kept }];
  if (state === 'lost') {
    return [{ kind: 'slot', sentence: `the server has let go of WAL that the replication slot ${name} was to keep` }];
  }
  if (state === 'fine') return [];
  const of = limitBytes === undefined ? 'all that it may' : `of ${formatBytes(limitBytes)} at the most`;
  return [
    {
      kind: 'slot',
      sentence: `the replication slot ${name} holds back ${formatBytes(retainedBytes)} of WAL on the server, ${of}`,
    },
  ];
}

function baseProblems({ baseWantedFrom: from }: WalProtection): readonly WalProblem[] {
  if (from === undefined) return [];
  return [
    { kind: 'base', sentence: `WAL is lost, and no base backup follows: nothing from ${from} on can be recovered` },
  ];
}

function guesses(wal: WalProtection): readonly string[] {
  return wal.storages.flatMap(({ storage, lagMs, isGuess }) => {
    if (isGuess !== true || lagMs === undefined || lagMs <= lateAfterMs(wal)) return [];
    return [
      `${storage}: WAL came last ${formatDuration(lagMs)} ago, and no receiver notes whether the server has written any since`,
    ];
  });
}

/** That some segments came is no proof that all did: no guess ends what was told. */
function isArchivedInTime(wal: WalProtection): boolean {
  const isInTime = ({ lagMs, isGuess }: Pick<WalStorage, 'lagMs' | 'isGuess'>): boolean =>
    isGuess !== true && lagMs !== undefined && lagMs <= IN_TIME_MS + wal.flushMs;
  return isInTime(wal) && wal.storages.every((each) => each.refuses === undefined && isInTime(each));
}

function isSlotFree(slot: WalSlot | undefined): boolean {
  if (slot?.retainedBytes === undefined || slot.state !== 'fine' || slot.kept !== undefined) return false;
  return slot.limitBytes === undefined || slot.retainedBytes < SLOT_FREE_RATIO * slot.limitBytes;
}
