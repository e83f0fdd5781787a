import { timelineDigits } from '../../postgres/wal/segment.ts';
import { parseHistoryFileName, type TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import { parseWalKey, type WalFolder, walPrefix } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectStore } from '../../storage/object-store.ts';
import { readArchivedHistory } from './history-object.ts';

/**
 * The histories of timelines with a higher number, ascending. It takes a listing for each of them, however many segments they
 * have. Error: `corrupt` for one that is damaged.
 */
export async function* laterTimelines(
  store: ObjectStore,
  folder: WalFolder,
  timeline: number,
  call: CallOptions,
): AsyncGenerator<TimelineHistory> {
  const prefix = walPrefix(folder);
  let startAfter: string | undefined = `${walPrefix(folder, timelineDigits(timeline))}~`;
  while (startAfter !== undefined) {
    const listed: string = startAfter;
    startAfter = undefined;
    for await (const { key } of store.list(prefix, { ...call, startAfter: listed })) {
      const [folderName = '', file] = key.slice(prefix.length).split('/');
      if (file !== undefined) {
        // Behind all segments of a timeline.
        startAfter = `${prefix}${folderName}/~`;
        break;
      }
      const wal = parseWalKey(key);
      const later = wal?.kind === 'history' ? parseHistoryFileName(wal.name) : undefined;
      if (later === undefined || later <= timeline) continue;
      const history = await readArchivedHistory(store, folder, later, call);
      if (history !== undefined) yield history;
    }
  }
}
