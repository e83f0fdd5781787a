import { spanOf } from '../../formats/physical/needed-wal.ts';
import { type ArchiveAccess, ArchivePath } from '../../formats/wal/archive-path.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { readWalRecord, type WalRecord } from '../../repository/wal-record.ts';
import type { OperationContext } from '../context.ts';
import { partsOfServer, physicalBackups } from '../wal/physical-backups.ts';
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

/** The newest base backup, and the timeline that a recovery is to follow for its sake. */
export interface TimelineOfBase extends BaseBeside {
  /** Whether the newest timeline that is archived is another one. */
  readonly isBeside: boolean;
}

/**
 * The timeline to try: that of the newest base backup. A drill that followed the newest in silence would prove what a copy of
 * the server has archived. Undefined where the newest timeline has no base backup of its own yet, but is the way of the newest
 * one: what other timelines hold counts then.
 */
export async function timelineOfNewestBase(
  reference: Manifest,
  access: ArchiveAccess,
  context: OperationContext,
): Promise<TimelineOfBase | undefined> {
  const { path } = await archiveOf(reference, undefined, access);
  const manifests = await physicalBackups({ store: access.store, source: reference.source }, context);
  const beside = await newestBeside(path, manifests);
  if (beside !== undefined) return { ...beside, isBeside: true };
  const newest = partsOfServer(manifests, path.folder.systemIdentifier).at(-1);
  if (newest === undefined || newest.timeline !== path.history.timeline) return undefined;
  return { manifest: newest.manifest, timeline: newest.timeline, isBeside: false };
}
