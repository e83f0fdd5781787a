import { formatBytes } from '../common/bytes.ts';
import { describeTailLoss } from '../operations/prune-refusal.ts';
import type { WalPruneOutcome } from '../operations/wal/prune-wal.ts';
import { formatCount } from './table.ts';

/** Whether anything of it went, or would. */
export function hasGone({ segments, otherObjects, uploads }: WalPruneOutcome): boolean {
  return segments + otherObjects + uploads > 0;
}

export function walPruneJson(outcome: WalPruneOutcome): Record<string, unknown> {
  const { source, systemIdentifier, segments, otherObjects, bytes, uploads, locked, keepsAll, refused } = outcome;
  return {
    source,
    system_identifier: systemIdentifier,
    segments,
    other_objects: otherObjects,
    bytes,
    uploads,
    locked,
    keeps_all: keepsAll,
    refused: refused && { base_backups: refused.lostCount, of: refused.totalCount },
  };
}

/** What there is to say of one archive; nothing where nothing happened. */
export function describeWalPrune(outcome: WalPruneOutcome, dryRun: boolean, prefix: string): string {
  const { source, segments, bytes, uploads, locked, keepsAll, refused } = outcome;
  const verb = dryRun ? 'would delete' : 'deleted';
  const lines: string[] = [];
  if (hasGone(outcome)) {
    lines.push(
      `${verb} WAL of ${source} that nothing needs: ${formatCount(segments, 'segment')}, ${formatBytes(bytes)}`,
    );
  }
  if (uploads > 0) lines.push(`${verb} what was left of ${formatCount(uploads, 'upload')} of WAL of ${source}`);
  if (locked > 0) {
    lines.push(`WAL of ${source} that nothing needs stays until its lock is over: ${formatCount(locked, 'segment')}`);
  }
  if (keepsAll !== undefined) lines.push(`all other WAL of ${source} stays: ${keepsAll}`);
  if (refused !== undefined && !dryRun) {
    lines.push(`deleted no WAL of ${source}: ${describeTailLoss(source, refused)} would have gone`);
  }
  return lines.map((line) => `${prefix}${line}\n`).join('');
}
