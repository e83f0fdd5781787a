import type { ArchivePath } from '../../formats/wal/archive-path.ts';
import { holdsAll, isOnWay, type Stretch } from '../../formats/wal/recovery-path.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { partsOfServer } from '../wal/physical-backups.ts';

/** A base backup from which a recovery can begin. */
export interface RecoveryBase {
  readonly manifest: Manifest;
  readonly startLsn: Lsn;
  /** Where it is consistent. */
  readonly stopLsn: Lsn;
}

/** A stretch of the log with the base backups in it, oldest first. */
export interface RecoverableStretch extends Stretch {
  readonly bases: readonly RecoveryBase[];
}

/** What can be recovered: only stretches that hold a base backup of their own way, ascending. */
export function recoverableStretches(path: ArchivePath, manifests: readonly Manifest[]): readonly RecoverableStretch[] {
  const bases = partsOfServer(manifests, path.folder.systemIdentifier)
    // One of a branch that was left leads nowhere here.
    .filter((part) => isOnWay(path.history, part))
    .map(({ manifest, from, to }): RecoveryBase => ({ manifest, startLsn: from, stopLsn: to }));
  return path.stretches.flatMap((stretch) => {
    const inside = bases.filter((base) =>
      holdsAll(stretch, { from: base.startLsn, to: base.stopLsn }, path.segmentBytes),
    );
    return inside.length === 0 ? [] : [{ ...stretch, bases: inside.sort((a, b) => (a.stopLsn < b.stopLsn ? -1 : 1)) }];
  });
}

/** The newest that is complete before a position, or at it. */
export function newestBefore({ bases }: RecoverableStretch, lsn: Lsn): RecoveryBase | undefined {
  return bases.findLast(({ stopLsn }) => stopLsn <= lsn);
}

/** A base backup that is newer than all on the way, and the newest timeline that it leads to. */
export interface BaseBeside {
  readonly manifest: Manifest;
  readonly timeline: number;
}

/** The newest base backup of the server, where the way does not lead through it. `manifests`: oldest first. */
export async function newestBeside(path: ArchivePath, manifests: readonly Manifest[]): Promise<BaseBeside | undefined> {
  const newest = partsOfServer(manifests, path.folder.systemIdentifier).at(-1);
  if (newest === undefined || isOnWay(path.history, newest)) return undefined;
  return { manifest: newest.manifest, timeline: (await path.newestThrough(newest)) ?? newest.timeline };
}
