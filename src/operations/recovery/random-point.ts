import type { ArchiveAccess } from '../../formats/wal/archive-path.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { OperationContext } from '../context.ts';
import { physicalBackups } from '../wal/physical-backups.ts';
import { archiveOf } from './archive-of.ts';
import { recoverableStretches } from './recovery-bases.ts';
import type { RecoveryTarget } from './recovery-target.ts';

/** Of the 53 bits of a fraction, as many as are sure to be there. */
const FRACTION_BITS = 40;

/**
 * Some position that the server of a backup can be brought back to, each as likely as any other: what was written in a busy hour
 * is hit more often than a quiet night. Where nothing is archived behind a backup, its end. `timeline`: default is the newest that is
 * archived. Errors: those of reading the archive.
 */
export async function randomPoint(
  reference: Manifest,
  timeline: number | undefined,
  access: ArchiveAccess,
  context: OperationContext,
): Promise<Exclude<RecoveryTarget, { readonly kind: 'backup-end' }>> {
  const { path } = await archiveOf(reference, timeline, access);
  const manifests = await physicalBackups({ store: access.store, source: reference.source }, context);
  const ranges = recoverableStretches(path, manifests).flatMap(({ bases, to }) => {
    const from = bases[0]?.stopLsn;
    return from === undefined || from >= to ? [] : [{ from, to }];
  });
  const total = ranges.reduce((sum, { from, to }) => sum + (to - from), 0n);
  let rest = (total * BigInt(Math.floor(context.random.fraction() * 2 ** FRACTION_BITS))) >> BigInt(FRACTION_BITS);
  for (const { from, to } of ranges) {
    if (rest < to - from) return { kind: 'lsn', lsn: from + rest };
    rest -= to - from;
  }
  return { kind: 'end' };
}
