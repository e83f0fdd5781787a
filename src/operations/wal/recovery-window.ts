import { holdsAll, isOnWay } from '../../formats/wal/recovery-path.ts';
import { parseLsn } from '../../postgres/wal/lsn.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { OperationContext } from '../context.ts';
import { type WalPart, type WalStatus, type WalStatusRequest, walStatus } from './status.ts';
import { isOfBasesAlone, lastCame } from './wal-of-bases.ts';

/** Moments that a server can be brought back to: any from a base backup's end to where its WAL ends. */
export interface RecoveryWindow extends WalPart {
  /** Base backups that reach into it, oldest first; without any, nothing in it can be reached. */
  readonly bases: readonly Manifest[];
  /** When the oldest of them was complete. */
  readonly earliest: Date | undefined;
  /** By the server's clock where a receiver has noted it, else when the last piece came. */
  readonly latest: Date;
  /**
   * It holds nothing but what its base backups need, and was stored after what lies behind it had begun to be: they were copied
   * there, and what is missing behind it never came that way.
   */
  readonly isCopied: boolean;
}

export interface RecoveryTimeline {
  readonly wal: WalStatus;
  /** Ascending; what lies between two of them is lost. */
  readonly windows: readonly RecoveryWindow[];
}

/** To which moments the servers of a source can be brought back from one storage, the newest archive first. */
export async function recoveryTimelines(
  request: WalStatusRequest,
  context: OperationContext,
): Promise<readonly RecoveryTimeline[]> {
  const archives = await walStatus(request, context);
  return archives.map((wal) => ({ wal, windows: windowsOf(wal) }));
}

/** Gaps in what is archived, told apart by whether a recovery would need what is not there. */
export interface JudgedGaps {
  readonly missing: readonly WalPart[];
  /** As retention leaves them: nothing that can be reached, or has to be, needs what was there. */
  readonly letGo: readonly WalPart[];
}

/**
 * Which gaps a recovery to a moment since then has to do with; undefined: to any moment. Where no base backup lies before a gap,
 * nobody comes to it, and nothing is lost behind one that was copied there; and where one behind it was complete by then, retention
 * lets go of what lies between older ones.
 */
export function judgeGaps({ wal, windows }: RecoveryTimeline, since: Date | undefined): JudgedGaps {
  const missing = wal.gaps.filter((_, index) => {
    const before = windows.slice(0, index + 1);
    const isReached = before.some(({ bases, isCopied }) => bases.length > 0 && !isCopied);
    const behind = windows.slice(index + 1).flatMap(({ bases }) => bases);
    return isReached && !behind.some(({ endedAt }) => since !== undefined && Date.parse(endedAt) <= since.getTime());
  });
  return { missing, letGo: wal.gaps.filter((gap) => !missing.includes(gap)) };
}

/** When the window begins to which recovery has to reach back. Undefined: as far as it can. */
export function windowStart(keepMs: number | undefined, now: Date): Date | undefined {
  return keepMs === undefined ? undefined : new Date(now.getTime() - keepMs);
}

function windowsOf(status: WalStatus): readonly RecoveryWindow[] {
  const { record, followed, stretches, ranges, bases: all } = status;
  const { segmentBytes, head } = record;
  const lines = new Set([followed?.timeline, ...(followed?.ancestors ?? []).map(({ timeline }) => timeline)]);
  const parts = ranges
    // What was stored or noted of a timeline that is not on the way says nothing of this one.
    .filter(({ timeline }) => lines.has(timeline))
    .map((range) => ({ ...range, from: parseLsn(range.from), to: parseLsn(range.to) }));
  // Where a receiver was by then; a base backup that was copied may lie behind that.
  const isNoted = head !== undefined && head.timeline === followed?.timeline;
  const noted = isNoted ? { time: new Date(head.serverTime), at: parseLsn(head.lsn) } : undefined;
  const notedIn = noted ? stretches.findLastIndex(({ from }) => parseLsn(from) <= noted.at) : -1;
  return stretches.map((stretch, index) => {
    const [from, to] = [parseLsn(stretch.from), parseLsn(stretch.to)];
    const within = all
      // A base of a branch that was left leads nowhere here.
      .filter(
        (part) => followed !== undefined && isOnWay(followed, part) && holdsAll({ from, to }, part, segmentBytes),
      );
    const bases = within.map(({ manifest }) => manifest);
    const stored = parts.filter((part) => part.from < to && part.to > from);
    const came = stored.map((part) => lastCame(part, all, segmentBytes).getTime());
    const behind = parts.filter((part) => part.from >= to);
    const earliest = bases[0] && new Date(bases[0].endedAt);
    // What was noted of a position that is not there any more says nothing of what is.
    const latest = noted && noted.at <= to && index === notedIn ? noted.time : new Date(Math.max(...came));
    return {
      ...stretch,
      bases,
      earliest,
      // The end of a base backup can be reached, also when nobody has noted since that more can.
      latest: earliest !== undefined && earliest > latest ? earliest : latest,
      isCopied:
        behind.length > 0 &&
        stored.every((part) => isOfBasesAlone(part, within, segmentBytes)) &&
        firstStoredMs(stored) > firstStoredMs(behind),
    };
  });
}

function firstStoredMs(parts: readonly { readonly firstStored: Date }[]): number {
  return Math.min(...parts.map(({ firstStored }) => firstStored.getTime()));
}
