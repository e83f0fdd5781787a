import { isHistoryArchived, readHistoryBytes } from '../../formats/wal/history-object.ts';
import type { ReplicationSession } from '../../postgres/replication/replication-session.ts';
import { isMissingHistory, readTimelineHistory } from '../../postgres/replication/timeline-history.ts';
import { ancestorsWithHistory, historyFileName } from '../../postgres/wal/timeline-history.ts';
import type { Archives } from './archives.ts';

/**
 * Archives the history of a timeline, which the server has or an archive. Those of all timelines before it come first, also of
 * such as no segment of their own is archived of: a recovery looks for one after another, and goes no further than to the first
 * that is missing. Error: the server's, SQLSTATE 58P01, where neither it nor an archive has that of the timeline itself.
 */
export async function archiveHistories(
  session: ReplicationSession,
  archives: Archives,
  timeline: number,
  signal: AbortSignal,
): Promise<void> {
  if (timeline === 1) return;
  const content = await historyOf(session, archives, timeline, signal);
  for (const ancestor of ancestorsWithHistory(timeline, content)) {
    await archiveAncestor(session, archives, ancestor, signal);
  }
  await archives.putHistory(historyFileName(timeline), content, signal);
}

/** One that nobody has is passed over: the server was built behind it. */
async function archiveAncestor(
  session: ReplicationSession,
  archives: Archives,
  timeline: number,
  signal: AbortSignal,
): Promise<void> {
  const isThere = await Promise.all(
    archives.places.map(({ place: { store, folder } }) => isHistoryArchived(store, folder, timeline, { signal })),
  );
  if (!isThere.includes(false)) return;
  try {
    await archives.putHistory(historyFileName(timeline), await historyOf(session, archives, timeline, signal), signal);
  } catch (error) {
    if (!isMissingHistory(error)) throw error;
  }
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
