import { parseLsn } from '../../postgres/wal/lsn.ts';
import { timelineOf } from '../../postgres/wal/timeline-history.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { Repository } from '../../repository/repository.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { OperationContext } from '../context.ts';
import { type WalPart, type WalStatus, walStatus } from './status.ts';

/** Moments that a server can be brought back to: any from a base backup's end to where its WAL ends. */
export interface RecoveryWindow extends WalPart {
  /** Base backups that reach into it, oldest first; without any, nothing in it can be reached. */
  readonly bases: readonly Manifest[];
  /** When the oldest of them was complete. */
  readonly earliest: Date | undefined;
  /** By the server's clock where a receiver has noted it, else when the last piece was stored. */
  readonly latest: Date;
}

export interface RecoveryTimeline {
  readonly wal: WalStatus;
  /** Ascending; what lies between two of them is lost. */
  readonly windows: readonly RecoveryWindow[];
}

/** To which moments the servers of a source can be brought back from one storage, the newest archive first. */
export async function recoveryTimelines(
  request: { readonly store: ObjectStore; readonly source: string },
  context: OperationContext,
): Promise<readonly RecoveryTimeline[]> {
  const archives = await walStatus(request, context);
  if (archives.length === 0) return [];
  const bases = await physicalBackups(request, context);
  return archives.map((wal) => ({ wal, windows: windowsOf(wal, bases) }));
}

/** Gaps in what is archived, told apart by whether a recovery would need what is not there. */
export interface JudgedGaps {
  readonly missing: readonly WalPart[];
  /** As retention leaves them: nothing that can be reached, or has to be, needs what was there. */
  readonly letGo: readonly WalPart[];
}

/**
 * Which gaps a recovery to a moment since then has to do with; undefined: to any moment. Where no base backup lies before a gap,
 * nobody comes to it; and where one behind it was complete by then, retention lets go of what lies between older ones.
 */
export function judgeGaps({ wal, windows }: RecoveryTimeline, since: Date | undefined): JudgedGaps {
  const missing = wal.gaps.filter((_, index) => {
    const isReached = windows.slice(0, index + 1).some(({ bases }) => bases.length > 0);
    const behind = windows.slice(index + 1).flatMap(({ bases }) => bases);
    return isReached && !behind.some(({ endedAt }) => since !== undefined && Date.parse(endedAt) <= since.getTime());
  });
  return { missing, letGo: wal.gaps.filter((gap) => !missing.includes(gap)) };
}

/** When the window begins to which recovery has to reach back. Undefined: as far as it can. */
export function windowStart(keepMs: number | undefined, now: Date): Date | undefined {
  return keepMs === undefined ? undefined : new Date(now.getTime() - keepMs);
}

/** Oldest first. Manifests of other formats are not even read. */
export async function physicalBackups(
  { store, source }: { readonly store: ObjectStore; readonly source: string },
  context: Pick<OperationContext, 'clock' | 'random' | 'signal'>,
): Promise<readonly Manifest[]> {
  const repository = new Repository(store, context);
  const call = { signal: context.signal };
  const found: Manifest[] = [];
  for await (const { key, id } of repository.manifestKeys({ source }, call)) {
    if (!/-[fi][a-z2-7]{6}$/.test(id)) continue;
    const manifest = await repository.manifestAt(key, call);
    if (manifest?.format === 'physical') found.push(manifest);
  }
  // One that needs another, which is gone, restores no server.
  const ids = new Set<string>(found.map(({ id }) => id));
  const whole = found.filter(({ parents }) => parents.every((id) => ids.has(id)));
  return whole.sort((a, b) => (a.endedAt < b.endedAt ? -1 : 1));
}

function windowsOf(wal: WalStatus, all: readonly Manifest[]): readonly RecoveryWindow[] {
  const { record, newest, stretches, ranges } = wal;
  return stretches.map((stretch, index) => {
    const [from, to] = [parseLsn(stretch.from), parseLsn(stretch.to)];
    const bases = all.filter(({ server, timeline, startLsn, stopLsn }) => {
      if (server.systemIdentifier !== record.systemIdentifier || startLsn === undefined || stopLsn === undefined)
        return false;
      // A base of a branch that was left leads nowhere here.
      if (newest === undefined || timelineOf(newest, parseLsn(startLsn)) !== timeline) return false;
      return parseLsn(startLsn) >= from && parseLsn(stopLsn) <= to;
    });
    const stored = ranges.filter((range) => parseLsn(range.from) < to).map(({ lastStored }) => lastStored.getTime());
    const noted = index === stretches.length - 1 ? record.head?.serverTime : undefined;
    const [oldest] = bases;
    return {
      ...stretch,
      bases,
      earliest: oldest && new Date(oldest.endedAt),
      latest: noted === undefined ? new Date(Math.max(...stored)) : new Date(noted),
    };
  });
}
