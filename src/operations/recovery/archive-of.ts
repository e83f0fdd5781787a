import { spanOf } from '../../formats/physical/needed-wal.ts';
import { type ArchiveAccess, ArchivePath } from '../../formats/wal/archive-path.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { readWalRecord, type WalRecord } from '../../repository/wal-record.ts';
import type { OperationContext } from '../context.ts';
import { physicalBackups } from '../wal/physical-backups.ts';
import { type BaseBeside, newestBeside } from './recovery-bases.ts';

/** The archive of the server that a backup is of. `timeline`: default is the newest. Errors: those of `ArchivePath.open`. */
export async function archiveOf(
  reference: Manifest,
  timeline: number | undefined,
  access: ArchiveAccess,
): Promise<{ readonly path: ArchivePath; readonly record: WalRecord | undefined }> {
  const { folder, segmentBytes } = spanOf(reference);
  const record = await readWalRecord(access.store, folder, { signal: access.signal });
  return { path: await ArchivePath.open(folder, record?.segmentBytes ?? segmentBytes, timeline, access), record };
}

/**
 * Where the newest timeline is not that of the newest base backup: the one to try, with that backup. A drill that followed the
 * newest would prove what a copy of the server has archived.
 */
export async function timelineBeside(
  reference: Manifest,
  access: ArchiveAccess,
  context: OperationContext,
): Promise<BaseBeside | undefined> {
  const { path } = await archiveOf(reference, undefined, access);
  return newestBeside(path, await physicalBackups({ store: access.store, source: reference.source }, context));
}
