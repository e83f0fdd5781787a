import { messageOf, isPgarkError, PgarkError } from '../../common/errors.ts';
import type { ArchivePath } from '../../formats/wal/archive-path.ts';
import type { Stretch } from '../../formats/wal/recovery-path.ts';
import { formatLsn, type Lsn } from '../../postgres/wal/lsn.ts';
import { segmentStartAt } from '../../postgres/wal/segment.ts';
import { formatServerTime, type ServerTime, serverTimeOfDate } from '../../postgres/wal/server-time.ts';
import type { TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { OperationContext } from '../context.ts';
import { lastEnded } from './locate-time.ts';
import type { RecoveryPlan } from './plan-recovery.ts';
import { type BaseBeside, newestBeside } from './recovery-bases.ts';
import { describeTarget, type RecoveryTarget } from './recovery-target.ts';
import { scanWal } from './scan-wal.ts';

/** A timeline that the way does not lead along to its end, and that has transactions behind where the two part. */
interface LeftBranch {
  readonly timeline: number;
  /** The first position at which it is not the way. */
  readonly fork: Lsn;
  /** When the first and the last transaction behind it were committed. */
  readonly first: ServerTime;
  readonly last: ServerTime;
  /** Whether it was there when the way left for a timeline that began then. */
  readonly isOlder: boolean;
  /** When that was; undefined where nothing of what the way goes on with is archived. */
  readonly leftAt: ServerTime | undefined;
}

/** What other timelines hold that a target may mean: nobody said which one is wanted. */
export interface Branches {
  warningsFor(plan: RecoveryPlan): readonly string[];
}

/**
 * The newest timeline may be that of a server which nobody means: a copy that was promoted, and that archives where its original
 * does. Error: `outside-window` where the newest base backup, which is the server's own, is not on the way to it.
 */
export async function checkNewestBase(path: ArchivePath, manifests: readonly Manifest[]): Promise<void> {
  const beside = await newestBeside(path, manifests);
  if (beside !== undefined) throw basedElsewhere(beside, path);
}

/**
 * Looks whether a target may lie on a timeline that was left, since the newest one is followed unless another was named. For a
 * moment at which the newest had not begun, while another one had transactions that are not on the way, the answer would be the
 * state before them, in silence: error `outside-window`, with the timeline that was there then. So it is for the end, where another
 * one has later transactions than the newest.
 */
export async function checkBranches(
  path: ArchivePath,
  target: RecoveryTarget,
  context: Pick<OperationContext, 'logger'>,
): Promise<Branches> {
  if (target.kind === 'backup-end') return { warningsFor: () => [] };
  const branches = await leftBranches(path, context);
  if (target.kind === 'end') {
    await checkLast(path, branches);
    return {
      // What ended before a base backup was begun that is on the way is an old story.
      warningsFor: ({ base }) =>
        branches
          .filter(({ fork, last }) => base.stopLsn <= fork || last >= begunAtOf(base))
          .map((branch) => notOnTheWay(branch, path)),
    };
  }
  if (target.kind !== 'time') {
    return {
      warningsFor: ({ stop }) =>
        branches.filter(({ fork }) => stop.lsn >= fork).map((branch) => mayMean(branch, path, target)),
    };
  }
  const { time } = target;
  const concerned = branches.filter(({ first }) => first <= time);
  const lived = concerned.findLast(({ isOlder, leftAt }) => isOlder && (leftAt === undefined || time < leftAt));
  if (lived !== undefined) throw notYetBegun(lived, path, time);
  return {
    // Behind a base backup that was made since, what was lost then is an old story, unless both went on.
    warningsFor: ({ base }) =>
      concerned
        .filter(({ fork, last }) => base.stopLsn <= fork || time <= last)
        .map((branch) => notOnTheWay(branch, path)),
  };
}

/** Error: `outside-window` where another timeline goes on to a later moment than the way does. */
async function checkLast(path: ArchivePath, branches: readonly LeftBranch[]): Promise<void> {
  const [latest] = branches.toSorted((a, b) => (a.last < b.last ? 1 : -1));
  if (latest === undefined) return;
  const last = await lastBehind(path, latest.fork);
  if (last === undefined || last < latest.last) throw goesFurther(latest, path, last);
}

/** When the last transaction on the way ended, where it lies behind the position. */
async function lastBehind(path: ArchivePath, fork: Lsn): Promise<ServerTime | undefined> {
  // Behind a gap there may be none yet.
  for (const { from, to } of readableOf(path).toReversed()) {
    if (to <= fork) return undefined;
    const last = await lastEnded(path, { from: from > fork ? from : fork, to });
    if (last !== undefined && last.lsn >= fork) return last.time;
  }
  return undefined;
}

/** A stretch that begins in the midst of a segment, behind a delta that is missing, can be read from the next one on. */
function readableOf({ stretches, segmentBytes }: ArchivePath): readonly Stretch[] {
  return stretches.flatMap(({ from, to }) => {
    const start = segmentStartAt(from + BigInt(segmentBytes) - 1n, segmentBytes);
    return start < to ? [{ from: start, to }] : [];
  });
}

function begunAtOf({ manifest }: RecoveryPlan['base']): ServerTime {
  return serverTimeOfDate(new Date(manifest.startedAt));
}

async function leftBranches(
  path: ArchivePath,
  { logger }: Pick<OperationContext, 'logger'>,
): Promise<readonly LeftBranch[]> {
  const found: LeftBranch[] = [];
  for (const timeline of path.otherTimelines) {
    try {
      const branch = await leftBranch(path, await path.towards(timeline));
      if (branch !== undefined) found.push(branch);
    } catch (error) {
      // What is damaged there, or encrypted for somebody else, is not on the way.
      if (!UNREADABLE.some((code) => isPgarkError(error, code))) throw error;
      logger.warning(
        'restore.branch_unread',
        `what timeline ${timeline} holds, which is not on the way, could not be read: ${messageOf(error)}`,
        { timeline },
      );
    }
  }
  return found;
}

const UNREADABLE = ['corrupt', 'wal-gap', 'wrong-key', 'key-missing'] as const;

async function leftBranch(path: ArchivePath, other: ArchivePath): Promise<LeftBranch | undefined> {
  const { fork, isOlder } = partOf(path.history, other.history);
  const behind = readableOf(other).flatMap(({ from, to }): Stretch[] =>
    to <= fork ? [] : [{ from: from > fork ? from : fork, to }],
  );
  let first: ServerTime | undefined;
  for (const stretch of behind) {
    first = await firstCommit(other, stretch);
    if (first !== undefined) break;
  }
  const end = behind.at(-1);
  if (first === undefined || end === undefined) return undefined;
  const last = (await lastEnded(other, end))?.time ?? first;
  const leftAt = isOlder ? await begunAt(path, fork) : undefined;
  return { timeline: other.history.timeline, fork, first, last: last > first ? last : first, isOlder, leftAt };
}

/** Where two ways part, and whether the first one leaves there for a timeline that begins then, with the other one there already. */
function partOf(one: TimelineHistory, other: TimelineHistory): { readonly fork: Lsn; readonly isOlder: boolean } {
  const last = { timeline: one.timeline, end: undefined };
  const others = [...other.ancestors, { timeline: other.timeline, end: undefined }];
  for (const [index, { timeline, end }] of [...one.ancestors, last].entries()) {
    const there = others[index];
    if (there?.timeline === timeline && there.end === end) continue;
    // Two that left the same timeline at the same position: the one of the lower number had begun first.
    if (there?.timeline !== timeline) return { fork: one.ancestors[index - 1]?.end ?? 0n, isOlder: true };
    const isOlder = end !== undefined && (there.end === undefined || end < there.end);
    return { fork: isOlder ? end : (there.end ?? 0n), isOlder };
  }
  return { fork: 0n, isOlder: false };
}

async function firstCommit(path: ArchivePath, { from, to }: Stretch): Promise<ServerTime | undefined> {
  let first: ServerTime | undefined;
  await scanWal(path, { from, to }, (landmark) => {
    if (landmark.kind !== 'commit' || landmark.lsn < from) return false;
    first = landmark.time;
    return true;
  });
  return first;
}

/** When the timeline began that the way goes on with there; where that record is not there, when its first transaction ended. */
async function begunAt(path: ArchivePath, fork: Lsn): Promise<ServerTime | undefined> {
  const stretch = readableOf(path).find(({ from, to }) => from <= fork && fork < to);
  let begun: ServerTime | undefined;
  if (stretch === undefined) return undefined;
  await scanWal(path, { from: fork, to: stretch.to }, (landmark) => {
    if (landmark.lsn < fork || !('time' in landmark)) return false;
    begun = landmark.time;
    return true;
  });
  return begun;
}

function notYetBegun({ timeline, fork, last, leftAt }: LeftBranch, path: ArchivePath, time: ServerTime): PgarkError {
  const newest = path.history.timeline;
  const since = leftAt === undefined ? '' : ` since ${formatServerTime(leftAt)}`;
  return new PgarkError(
    'outside-window',
    `at ${formatServerTime(time)} timeline ${timeline} was the server’s: it holds transactions behind ${formatLsn(fork)}, up to ${formatServerTime(last)}, that are not on timeline ${newest}, the newest, which goes another way from there${since}`,
    {
      hint: `--timeline ${timeline} brings back what was there then; --timeline ${newest} brings back what there was before ${formatLsn(fork)}`,
    },
  );
}

function basedElsewhere({ manifest, timeline }: BaseBeside, { history }: ArchivePath): PgarkError {
  const newest = history.timeline;
  return new PgarkError(
    'outside-window',
    `${manifest.id}, the newest base backup, of timeline ${manifest.timeline}, is not on the way to timeline ${newest}, the newest that is archived: that one may be of a copy of the server`,
    {
      hint: `--timeline ${timeline} goes on from the newest base backup; --timeline ${newest} to the end of the newest timeline`,
    },
  );
}

function goesFurther(
  { timeline, fork, last }: LeftBranch,
  { history }: ArchivePath,
  lastOnWay: ServerTime | undefined,
): PgarkError {
  const newest = history.timeline;
  const until = lastOnWay === undefined ? 'has none there' : `ends with one of ${formatServerTime(lastOnWay)}`;
  return new PgarkError(
    'outside-window',
    `timeline ${timeline} holds transactions behind ${formatLsn(fork)}, up to ${formatServerTime(last)}; timeline ${newest}, the newest, goes another way from there, and ${until}`,
    {
      hint: `--timeline ${timeline} brings back what there was last; --timeline ${newest} goes to the end of the newest timeline`,
    },
  );
}

function notOnTheWay({ timeline, fork, last }: LeftBranch, { history }: ArchivePath): string {
  return `timeline ${timeline} holds transactions behind ${formatLsn(fork)}, up to ${formatServerTime(last)}, that are not on timeline ${history.timeline}, which is followed: --timeline ${timeline} brings them back instead`;
}

function mayMean({ timeline, fork }: LeftBranch, { history }: ArchivePath, target: RecoveryTarget): string {
  return `timeline ${timeline} goes another way behind ${formatLsn(fork)} than timeline ${history.timeline}, which is followed: if ${describeTarget(target)} is meant of that one, say --timeline ${timeline}`;
}
