import { isPgarkError, messageOf } from '../../common/errors.ts';
import { indexWal } from '../../formats/wal/archive-index.ts';
import { readArchivedHistory } from '../../formats/wal/history-object.ts';
import { parseLsn } from '../../postgres/wal/lsn.ts';
import {
  parseSegmentName,
  type Segment,
  segmentAt,
  segmentEnd,
  segmentName,
  segmentStart,
} from '../../postgres/wal/segment.ts';
import { historyFileName } from '../../postgres/wal/timeline-history.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { WalFolder, WalObject } from '../../repository/wal-keys.ts';
import { type WalBase, type WalLine, type WalRule, type WalStretch, walRule } from '../../retention/wal.ts';
import type { CallOptions, ObjectInfo, ObjectStore } from '../../storage/object-store.ts';

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
  readonly lock: WalLock;
}

/** For how long the storage locks segments, by what the configuration says now. Undefined: not at all. */
export interface WalLock {
  readonly lockedMs?: number | undefined;
  /** By the store's clock. */
  readonly now: Date;
}

/** Whether what was stored then is locked still. */
export function isLocked(storedAt: Date, { lockedMs, now }: WalLock): boolean {
  // Negated, so that a time that is no time is locked.
  return lockedMs !== undefined && !(storedAt.getTime() + lockedMs <= now.getTime());
}

/** The log that an object holds something of. Undefined for a history. */
export function stretchOf(wal: WalObject, segmentBytes: number): Omit<WalStretch, 'storedAt'> | undefined {
  const segment = parseSegmentName(wal.name.slice(0, 24), segmentBytes);
  return segment && wholeOf(segment, segmentBytes);
}

function wholeOf(segment: Segment, segmentBytes: number): Omit<WalStretch, 'storedAt'> {
  const { timeline } = segment;
  return { timeline, from: segmentStart(segment, segmentBytes), to: segmentEnd(segment, segmentBytes) };
}

/** Works out what of an archive is needed, by one listing and the histories of its timelines. */
export async function keptWal(request: KeptWalRequest, options: CallOptions): Promise<KeptWal> {
  const { store, folder, segmentBytes, kept, removed, keepMs, lock } = request;
  const bases = kept.map(baseOf);
  const unclear = kept.find((_, index) => bases[index] === undefined);
  if (unclear !== undefined) return { keepsAll: `the manifest of ${unclear.id} does not say which WAL it needs` };
  const broken = withoutParent(kept);
  if (broken !== undefined) return { keepsAll: broken };
  const known = bases.filter((base) => base !== undefined);
  const tails = [...known, ...removed.flatMap((manifest) => baseOf(manifest) ?? [])].map((base) =>
    tailOf(base, segmentBytes),
  );
  const byName = Map.groupBy(tails, ({ name }) => name);
  const onSegment = (name: string, { modified }: ObjectInfo): void => {
    for (const tail of byName.get(name) ?? []) tail.stored.push(modified);
  };
  const index = await indexWal(store, folder, segmentBytes, { ...options, onSegment });
  const lines: WalLine[] = [];
  const timelines = new Set([...index.ranges.keys(), ...kept.flatMap(({ timeline }) => timeline ?? [])]);
  for (const timeline of timelines) {
    const line = await lineOf(store, folder, timeline, options);
    if (typeof line === 'string') return { keepsAll: line };
    lines.push(line);
  }
  const rule = walRule({ bases: known, lines, keepMs, now: lock.now });
  if (rule === undefined) return { keepsAll: 'no base backup is there that would say what is needed' };
  const fates = tails.map((tail) => fateOf(tail, rule, lock));
  const count = (fate: Fate): number => fates.filter((each) => each === fate).length;
  // Those whose log stays for its lock alone say nothing of what the window was meant to be.
  return { rule, loses: { lostCount: count('lost'), totalCount: tails.length - count('locked') } };
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

/** The segment by which the log goes on behind a base backup, and when what is there of it was stored. */
interface Tail extends Omit<WalStretch, 'storedAt'> {
  readonly name: string;
  readonly stored: Date[];
}

function tailOf({ timeline, stop }: WalBase, segmentBytes: number): Tail {
  const next = { timeline, number: segmentAt(timeline, stop - 1n, segmentBytes).number + 1n };
  return { ...wholeOf(next, segmentBytes), name: segmentName(next, segmentBytes), stored: [] };
}

type Fate = 'lost' | 'locked' | 'as it was';

/** What becomes of the log behind a base backup: whether it goes on there now and would not any more, or does for its lock alone. */
function fateOf({ stored, ...tail }: Tail, rule: WalRule, lock: WalLock): Fate {
  if (stored.length === 0 || stored.some((storedAt) => rule.needs({ ...tail, storedAt }))) return 'as it was';
  return stored.some((storedAt) => isLocked(storedAt, lock)) ? 'locked' : 'lost';
}
