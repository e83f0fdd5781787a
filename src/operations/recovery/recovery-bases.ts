import type { ArchivePath } from '../../formats/wal/archive-path.ts';
import type { Stretch } from '../../formats/wal/recovery-path.ts';
import { type Lsn, parseLsn } from '../../postgres/wal/lsn.ts';
import { timelineOf } from '../../postgres/wal/timeline-history.ts';
import type { Manifest } from '../../repository/manifest.ts';

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
  const bases = manifests.flatMap((manifest): RecoveryBase[] => {
    const { server, timeline, startLsn, stopLsn } = manifest;
    if (server.systemIdentifier !== path.folder.systemIdentifier || startLsn === undefined || stopLsn === undefined)
      return [];
    const base = { manifest, startLsn: parseLsn(startLsn), stopLsn: parseLsn(stopLsn) };
    // One of a branch that was left leads nowhere here; so does one that was begun before and ended after the branch.
    const isOnPath = [base.startLsn, base.stopLsn - 1n].every((lsn) => timelineOf(path.history, lsn) === timeline);
    return isOnPath ? [base] : [];
  });
  return path.stretches.flatMap((stretch) => {
    const inside = bases.filter(({ startLsn, stopLsn }) => stretch.from <= startLsn && stopLsn <= stretch.to);
    return inside.length === 0 ? [] : [{ ...stretch, bases: inside.sort((a, b) => (a.stopLsn < b.stopLsn ? -1 : 1)) }];
  });
}

/** The newest that is complete before a position, or at it. */
export function newestBefore({ bases }: RecoverableStretch, lsn: Lsn): RecoveryBase | undefined {
  return bases.findLast(({ stopLsn }) => stopLsn <= lsn);
}
