import { indexWal, type WalRange } from '../../formats/wal/archive-index.ts';
import { readArchivedHistory } from '../../formats/wal/history-object.ts';
import { gapsBetween, type Stretch, stretchesTowards } from '../../formats/wal/recovery-path.ts';
import { isPgarkError, messageOf } from '../../common/errors.ts';
import { formatLsn } from '../../postgres/wal/lsn.ts';
import { historyFileName, type TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import { listWalRecords, type WalRecord } from '../../repository/wal-record.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { OperationContext } from '../context.ts';

/** A part of the log, from a position to another one, as PostgreSQL writes them: `0/3000028`. */
export interface WalPart {
  readonly from: string;
  readonly to: string;
}

/** What is archived of one server's WAL in one storage. */
export interface WalStatus {
  readonly record: WalRecord;
  /** By timeline, ascending; with gaps between those of one timeline. */
  readonly ranges: readonly (WalPart &
    Pick<WalRange, 'timeline' | 'segments' | 'storedBytes' | 'firstStored' | 'lastStored'>)[];
  /** The newest timeline, and how it came about. */
  readonly newest: TimelineHistory | undefined;
  /** On the way towards the newest timeline, ascending. */
  readonly stretches: readonly WalPart[];
  readonly gaps: readonly WalPart[];
  readonly storedBytes: number;
}

/** What is archived of a source's servers in a storage, the newest archive first. Changes nothing, and needs no key. */
export async function walStatus(
  { store, source }: { readonly store: ObjectStore; readonly source: string },
  context: OperationContext,
): Promise<readonly WalStatus[]> {
  const call = { signal: context.signal };
  const records = await listWalRecords(store, source, call);
  const all: WalStatus[] = [];
  for (const record of records) {
    const index = await indexWal(store, record, record.segmentBytes, call);
    const timeline = Math.max(0, ...index.ranges.keys(), ...index.histories);
    const newest = timeline === 0 ? undefined : await historyOf(store, record, timeline, context);
    const stretches = newest === undefined ? [] : stretchesTowards(index, newest);
    const ranges = [...index.ranges.values()].flat();
    all.push({
      record,
      ranges: ranges.map((range) => ({ ...range, ...partOf(range) })),
      newest,
      stretches: stretches.map(partOf),
      gaps: gapsBetween(stretches).map(partOf),
      storedBytes: ranges.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    });
  }
  const writtenAt = ({ record }: WalStatus): string => record.head?.writtenAt ?? record.createdAt;
  return all.sort((a, b) => (writtenAt(a) < writtenAt(b) ? 1 : -1));
}

function partOf({ from, to }: Stretch): WalPart {
  return { from: formatLsn(from), to: formatLsn(to) };
}

/** One that is missing or damaged leaves the timeline without what came before it. */
async function historyOf(
  store: ObjectStore,
  record: WalRecord,
  timeline: number,
  { logger, signal }: OperationContext,
): Promise<TimelineHistory> {
  const alone = { timeline, ancestors: [] };
  if (timeline === 1) return alone;
  const name = historyFileName(timeline);
  try {
    const found = await readArchivedHistory(store, record, timeline, { signal });
    if (found !== undefined) return found;
    logger.warning('wal.history_missing', `${name} is not archived in ${store.location}`, { name });
  } catch (error) {
    if (!isPgarkError(error, 'corrupt')) throw error;
    logger.warning('wal.history_damaged', messageOf(error), { name });
  }
  return alone;
}
