import { indexWal, type WalRange } from '../../formats/wal/archive-index.ts';
import { readArchivedHistory } from '../../formats/wal/history-object.ts';
import { gapsBetween, type Stretch, stretchesTowards } from '../../formats/wal/recovery-path.ts';
import { isPgarkError, messageOf } from '../../common/errors.ts';
import { formatLsn, parseLsn } from '../../postgres/wal/lsn.ts';
import { historyFileName, type TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import { type BackedUpPart, partsOfServer, physicalBackups } from './physical-backups.ts';
import { chooseWay } from './choose-way.ts';
import { listWalRecords, type WalHead, type WalRecord } from '../../repository/wal-record.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { OperationContext } from '../context.ts';

/** A part of the log, from a position to another one, as PostgreSQL writes them: `0/3000028`. */
export interface WalPart {
  readonly from: string;
  readonly to: string;
}

export interface WalStatusRequest {
  readonly store: ObjectStore;
  readonly source: string;
  /** Of the server whose WAL is received: then its timeline is looked at, whatever else is archived. */
  readonly received?: { readonly systemIdentifier: string; readonly timeline: number } | undefined;
}

/** What is archived of one server's WAL in one storage. */
export interface WalStatus {
  readonly record: WalRecord;
  /** Its base backups, oldest first. */
  readonly bases: readonly BackedUpPart[];
  /** By timeline, ascending; with gaps between those of one timeline. */
  readonly ranges: readonly (WalPart &
    Pick<WalRange, 'timeline' | 'segments' | 'storedBytes' | 'firstStored' | 'lastStored'>)[];
  /** The timeline that is looked at, and how it came about. */
  readonly followed: TimelineHistory | undefined;
  /** Sentences on other timelines that may be the server's. */
  readonly warnings: readonly string[];
  /** On the way towards the timeline, ascending. */
  readonly stretches: readonly WalPart[];
  readonly gaps: readonly WalPart[];
  readonly storedBytes: number;
}

/**
 * What is archived of a source's servers in a storage, the newest archive first: on the way to the newest timeline, unless that
 * is not the server's. Changes nothing, and needs no key.
 */
export async function walStatus(request: WalStatusRequest, context: OperationContext): Promise<readonly WalStatus[]> {
  const { store, source, received } = request;
  const call = { signal: context.signal };
  const records = await listWalRecords(store, source, call);
  const manifests = records.length === 0 ? [] : await physicalBackups(request, context);
  const all: WalStatus[] = [];
  for (const record of records) {
    const { systemIdentifier } = record;
    const index = await indexWal(store, record, record.segmentBytes, call);
    const bases = partsOfServer(manifests, systemIdentifier);
    const live = received?.systemIdentifier === systemIdentifier ? received.timeline : undefined;
    const way = await chooseWay(index, { live, bases }, (timeline) => historyOf(store, record, timeline, context));
    const stretches = way === undefined ? [] : stretchesTowards(index, way.followed);
    const ranges = [...index.ranges.values()].flat();
    all.push({
      record,
      bases,
      ranges: ranges.map((range) => ({ ...range, ...partOf(range) })),
      followed: way?.followed,
      warnings: way?.warnings ?? [],
      stretches: stretches.map(partOf),
      gaps: gapsBetween(stretches).map(partOf),
      storedBytes: ranges.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    });
  }
  const writtenAt = ({ record }: WalStatus): string => record.head?.writtenAt ?? record.createdAt;
  return all.sort((a, b) => (writtenAt(a) < writtenAt(b) ? 1 : -1));
}

/**
 * What a receiver noted last, unless it was further than what is archived by now: then something is gone of what it had archived,
 * and what it says was in it.
 */
export function noteOf({ record: { head }, followed, stretches }: WalStatus): WalHead | undefined {
  const last = stretches.at(-1);
  if (head === undefined || last === undefined || head.timeline !== followed?.timeline) return head;
  return parseLsn(head.lsn) > parseLsn(last.to) ? undefined : head;
}

function partOf({ from, to }: Stretch): WalPart {
  return { from: formatLsn(from), to: formatLsn(to) };
}

/** Undefined for one that is missing or damaged. */
async function historyOf(
  store: ObjectStore,
  record: WalRecord,
  timeline: number,
  { logger, signal }: OperationContext,
): Promise<TimelineHistory | undefined> {
  if (timeline === 1) return { timeline, ancestors: [] };
  const name = historyFileName(timeline);
  try {
    const found = await readArchivedHistory(store, record, timeline, { signal });
    if (found !== undefined) return found;
    logger.warning('wal.history_missing', `${name} is not archived in ${store.location}`, { name });
  } catch (error) {
    if (!isPgarkError(error, 'corrupt')) throw error;
    logger.warning('wal.history_damaged', messageOf(error), { name });
  }
  return undefined;
}
