import { isPgarkError, messageOf } from '../../common/errors.ts';
import { indexWal, type WalIndex } from '../../formats/wal/archive-index.ts';
import { readArchivedHistory } from '../../formats/wal/history-object.ts';
import { parseLsn } from '../../postgres/wal/lsn.ts';
import { segmentAt, segmentEnd, segmentStart } from '../../postgres/wal/segment.ts';
import { historyFileName } from '../../postgres/wal/timeline-history.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { WalFolder } from '../../repository/wal-keys.ts';
import { type WalBase, type WalLine, type WalRule, walRule } from '../../retention/wal.ts';
import type { CallOptions, ObjectStore } from '../../storage/object-store.ts';

/** What stays of one archive, or in a sentence why nothing of it can go. */
export type KeptWal = { readonly rule: WalRule; readonly loses: TailLoss } | { readonly keepsAll: string };

/** Base backups behind which the log would not go on any more, of how many. */
export interface TailLoss {
  readonly lostCount: number;
  readonly totalCount: number;
}

export interface KeptWalRequest {
  readonly store: ObjectStore;
  readonly folder: WalFolder;
  readonly segmentBytes: number;
  /** Physical backups of the server: those that stay, and those that go with the WAL. */
  readonly kept: readonly Manifest[];
  readonly removed: readonly Manifest[];
  readonly keepMs: number | undefined;
  /** By the store's clock. */
  readonly now: Date;
}

/** Works out what of an archive is needed, by one listing and the histories of its timelines. */
export async function keptWal(request: KeptWalRequest, options: CallOptions): Promise<KeptWal> {
  const { store, folder, segmentBytes, kept, removed, keepMs, now } = request;
  const bases = kept.map(baseOf);
  const unclear = kept.find((_, index) => bases[index] === undefined);
  if (unclear !== undefined) return { keepsAll: `the manifest of ${unclear.id} does not say which WAL it needs` };
  const broken = withoutParent(kept);
  if (broken !== undefined) return { keepsAll: broken };
  const index = await indexWal(store, folder, segmentBytes, options);
  const lines: WalLine[] = [];
  const timelines = new Set([...index.ranges.keys(), ...kept.flatMap(({ timeline }) => timeline ?? [])]);
  for (const timeline of timelines) {
    const line = await lineOf(store, folder, timeline, options);
    if (typeof line === 'string') return { keepsAll: line };
    lines.push(line);
  }
  const known = bases.filter((base) => base !== undefined);
  const rule = walRule({ bases: known, lines, keepMs, now });
  if (rule === undefined) return { keepsAll: 'no base backup is there that would say what is needed' };
  const gone = removed.flatMap((manifest) => baseOf(manifest) ?? []);
  return { rule, loses: tailLoss([...known, ...gone], index, rule) };
}

/**
 * A sentence, where one of the base backups needs another one that is gone: it restores no server, and if it passed for the
 * way into the recovery window, the log that leads there from an older one would go.
 */
function withoutParent(kept: readonly Manifest[]): string | undefined {
  const ids = new Set<string>(kept.map(({ id }) => id));
  for (const { id, parents } of kept) {
    const missing = parents.find((parent) => !ids.has(parent));
    if (missing !== undefined) return `${id} cannot be restored without ${missing}, which is not there`;
  }
  return undefined;
}

/** Undefined for a manifest that does not say where it begins and ends. Its times are made the store's. */
function baseOf({ timeline, startLsn, stopLsn, startedAt, endedAt, storeTime }: Manifest): WalBase | undefined {
  if (timeline === undefined || startLsn === undefined || stopLsn === undefined) return undefined;
  const endedMs = Date.parse(storeTime);
  return {
    timeline,
    start: parseLsn(startLsn),
    stop: parseLsn(stopLsn),
    begunAt: new Date(endedMs - Math.max(0, Date.parse(endedAt) - Date.parse(startedAt))),
    endedAt: new Date(endedMs),
  };
}

/** A sentence, where the history is not there or damaged. */
async function lineOf(
  store: ObjectStore,
  folder: WalFolder,
  timeline: number,
  options: CallOptions,
): Promise<WalLine | string> {
  if (timeline === 1) return { timeline, ancestors: [] };
  try {
    const found = await readArchivedHistory(store, folder, timeline, options);
    if (found !== undefined) return found;
    return `${historyFileName(timeline)} is not archived, so that nobody knows what timeline ${timeline} needs`;
  } catch (error) {
    if (!isPgarkError(error, 'corrupt')) throw error;
    return messageOf(error);
  }
}

/** Behind how many base backups the log goes on now and would not any more. */
function tailLoss(bases: readonly WalBase[], { segmentBytes, ranges }: WalIndex, rule: WalRule): TailLoss {
  const lost = bases.filter(({ timeline, stop }) => {
    const next = { number: segmentAt(timeline, stop - 1n, segmentBytes).number + 1n };
    const stretch = { timeline, from: segmentStart(next, segmentBytes), to: segmentEnd(next, segmentBytes) };
    const isThere = (ranges.get(timeline) ?? []).some(
      ({ from, wholeTo }) => from <= stretch.from && stretch.to <= wholeTo,
    );
    return isThere && !rule.needs({ ...stretch, storedAt: new Date(0) });
  });
  return { lostCount: lost.length, totalCount: bases.length };
}
