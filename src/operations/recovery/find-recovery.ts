import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { type BackupFilter, Repository } from '../../repository/repository.ts';
import { type BackupSelector, findBackup } from '../find-backup.ts';
import type { FindIn, FindRule } from '../find-across.ts';
import type { RecoveryRequest } from '../restore-directory.ts';
import { planRecovery } from './plan-recovery.ts';

/** What is to be restored as a server of its own. */
export interface SoughtRecovery {
  readonly selector: BackupSelector;
  readonly filter: BackupFilter;
  readonly keys: DecryptionKeys;
  /** Undefined: to the end of the backup. */
  readonly recovery: Pick<RecoveryRequest, 'target' | 'timeline'> | undefined;
}

/**
 * For `findAcross`: a storage has what is sought only if the write-ahead log beside its base backups leads there. A moment is the
 * same moment wherever it is taken from; the end of what is archived is where it goes on for the longest.
 */
export function findingRecovery({ selector, filter, keys, recovery }: SoughtRecovery): {
  readonly find: FindIn;
  readonly rule: FindRule;
} {
  const isNamed = selector.kind === 'name';
  const find: FindIn = async (store, context) => {
    const of = isNamed ? filter : { ...filter, kind: 'physical' as const };
    const found = await findBackup(new Repository(store, context), selector, of, context);
    if (found.kind === 'foreign' || found.manifest.format !== 'physical' || recovery === undefined) return found;
    const access = { store, keys, signal: context.signal };
    const { base, timeline, stop } = await planRecovery(
      { ...recovery, reference: found.manifest, isNamed },
      access,
      context,
    );
    const lsn = stop.lsn > base.stopLsn ? stop.lsn : base.stopLsn;
    return { ...found, reach: { timeline, lsn } };
  };
  const takes =
    recovery === undefined ? (isNamed ? 'first' : 'newest') : recovery.target.kind === 'end' ? 'furthest' : 'first';
  return { find, rule: { isNamed, takes, isLookedForAgain: true } };
}
