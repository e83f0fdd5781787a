import { isPgarkError, messageOf } from '../common/errors.ts';
import { spanOf } from '../formats/physical/needed-wal.ts';
import type { PhysicalObjects } from '../formats/physical/physical-objects.ts';
import { ArchivePath } from '../formats/wal/archive-path.ts';
import type { Session } from '../postgres/client/connect.ts';
import { readSummaryBorders } from '../postgres/replication/incremental-facts.ts';
import { formatLsn, type Lsn, parseLsn } from '../postgres/wal/lsn.ts';
import { scanWal } from './recovery/scan-wal.ts';

/**
 * Why a server's log is not the one that a backup of it was made in, although system identifier and timeline are the same: a
 * volume that was put back to an earlier state is a server that writes the same positions a second time. PostgreSQL notices that
 * only as long as the server has not come to the backup's end again; then it sends what was changed in its new log alone, and
 * what both hold together is no database.
 *
 * The server's summaries, which an incremental backup needs in any case, are cut wherever a recovery may begin. A backup begins
 * there; and a server that was put back into the middle of one has recovered there, at a position where the backup's own
 * log, which is archived, has no such point. Undefined where it is the same, or the server has not summarized it yet.
 */
export async function whyOtherLog(session: Session, objects: PhysicalObjects): Promise<string | undefined> {
  const { id, timeline = 0, startLsn = '0/0', stopLsn = '0/0' } = objects.manifest;
  const { borders, isPassed } = await readSummaryBorders(session, { timeline, from: startLsn, to: stopLsn });
  const [begin, stop] = [parseLsn(startLsn), parseLsn(stopLsn)];
  const positions = borders.map(parseLsn);
  const otherwise =
    'the server was put back to an earlier state, such as a snapshot of its volume, and has gone on from there';
  if (isPassed && !positions.includes(begin)) {
    return `its log has no checkpoint at ${startLsn}, where ${id} began: ${otherwise}`;
  }
  const within = positions.filter((lsn) => lsn > begin && lsn < stop);
  const strange = within.length === 0 ? undefined : await firstUnknown(objects, within);
  if (strange === undefined) return undefined;
  return typeof strange === 'bigint'
    ? `its log has a checkpoint at ${formatLsn(strange)}, within ${id}, which that one’s log has not: ${otherwise}`
    : `whether its log is the one that ${id} was made in cannot be told: ${strange.why}`;
}

/** The first of the positions at which the archived log has no point where a recovery may begin. */
async function firstUnknown(
  objects: PhysicalObjects,
  positions: readonly Lsn[],
): Promise<Lsn | { readonly why: string } | undefined> {
  try {
    const { folder, timeline, segmentBytes, to } = spanOf(objects.manifest);
    const path = await ArchivePath.open(folder, segmentBytes, timeline, objects.access);
    for (const lsn of positions) {
      let isThere = false;
      const end = lsn + BigInt(segmentBytes);
      await scanWal(path, { from: lsn, to: end < to ? end : to }, (landmark) => {
        isThere ||= landmark.lsn === lsn && landmark.kind === 'redo-point';
        return landmark.lsn >= lsn;
      });
      if (!isThere) return lsn;
    }
    return undefined;
  } catch (error) {
    const isOfArchive = ['corrupt', 'wal-gap', 'wal-unknown', 'object-not-found', 'key-missing', 'wrong-key'] as const;
    if (!isOfArchive.some((code) => isPgarkError(error, code))) throw error;
    return { why: messageOf(error) };
  }
}
