import type { ArchivePath } from '../../formats/wal/archive-path.ts';
import type { Stretch } from '../../formats/wal/recovery-path.ts';
import { parseLsn } from '../../postgres/wal/lsn.ts';
import { segmentAt } from '../../postgres/wal/segment.ts';
import { parseServerTime, type ServerTime } from '../../postgres/wal/server-time.ts';
import type { WalRecord } from '../../repository/wal-record.ts';
import { lastEnded } from './locate-time.ts';

/**
 * Up to which moment, by the server's clock, all that was committed is in a stretch: as a receiver noted, as the last piece says
 * of itself, or at least up to the last transaction in it. `record`: that of the archive, where the stretch is its last.
 */
export async function coveredUntil(
  path: ArchivePath,
  stretch: Stretch,
  record: WalRecord | undefined,
): Promise<ServerTime | undefined> {
  const known: ServerTime[] = [];
  const head = record?.head;
  if (head !== undefined && head.timeline === path.history.timeline && parseLsn(head.lsn) <= stretch.to) {
    known.push(parseServerTime(head.serverTime));
  }
  const facts = await path.factsOf(segmentAt(1, stretch.to - 1n, path.segmentBytes).number);
  if (facts?.serverEnd !== undefined && facts.serverEnd <= stretch.to) known.push(facts.until);
  // What was received from a standby does not say how much was committed.
  if (known.length === 0 || facts?.serverEnd === undefined) {
    const last = await lastEnded(path, stretch);
    if (last !== undefined) known.push(last.time);
  }
  return known.length === 0 ? undefined : known.reduce((a, b) => (a > b ? a : b));
}
