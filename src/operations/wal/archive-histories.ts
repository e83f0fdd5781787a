import { readHistoryBytes } from '../../formats/wal/history-object.ts';
import type { ReplicationSession } from '../../postgres/replication/replication-session.ts';
import { isMissingHistory, readTimelineHistory } from '../../postgres/replication/timeline-history.ts';
import { historyFileName } from '../../postgres/wal/timeline-history.ts';
import type { Archives } from './archives.ts';

/**
 * Archives the history of a timeline, which the server has or an archive: a server that was built later has the WAL of an older
 * timeline hardly ever, but need not be asked for it in vain for ever. Error: the server's, where nobody has it.
 */
export async function archiveHistories(
  session: ReplicationSession,
  archives: Archives,
  timeline: number,
  signal: AbortSignal,
): Promise<void> {
  if (timeline === 1) return;
  const content = await historyOf(session, archives, timeline, signal);
  await archives.putHistory(historyFileName(timeline), content, signal);
}

async function historyOf(
  session: ReplicationSession,
  archives: Archives,
  timeline: number,
  signal: AbortSignal,
): Promise<Buffer> {
  try {
    return await readTimelineHistory(session, timeline);
  } catch (error) {
    if (!isMissingHistory(error)) throw error;
    for (const { place } of archives.places) {
      const content = await readHistoryBytes(place.store, place.folder, timeline, { signal });
      if (content !== undefined) return Buffer.from(content);
    }
    throw error;
  }
}
