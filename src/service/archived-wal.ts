import type { SourceConfig } from '../config/model.ts';
import { AHEAD_MS_MAX } from '../common/clock.ts';
import type { WalProtection, WalStorage } from '../observability/wal-protection.ts';
import { type OperationContext, operationContext } from '../operations/context.ts';
import { judgeGaps, type RecoveryTimeline, recoveryTimelines, windowStart } from '../operations/wal/recovery-window.ts';
import { noteOf, type WalStatus } from '../operations/wal/status.ts';
import { isOfBasesAlone, lastCame, type StoredPart } from '../operations/wal/wal-of-bases.ts';
import { parseLsn } from '../postgres/wal/lsn.ts';
import type { WalHead } from '../repository/wal-record.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { WalSettings } from './wal.ts';

/** A receiver notes each minute how far it is. Segments that came so long behind the note did not come by it. */
const NOTE_MS_MAX = 5 * 60_000;

/** What a storage holds of a source's WAL: of its servers the one that was archived last. */
export interface FoundArchive {
  /** Of the storage. */
  readonly name: string;
  /** `unread`: it could not be read, which is told otherwise. */
  readonly newest: RecoveryTimeline | 'unread' | undefined;
}

/** Errors: those of the store, `repository-damaged`, `repository-unknown-layout`. */
export async function newestArchive(
  source: SourceConfig,
  store: ObjectStore,
  { clock, random, signal }: Pick<OperationContext, 'clock' | 'random' | 'signal'>,
): Promise<RecoveryTimeline | undefined> {
  const context = { ...operationContext({ clock, signal }), random };
  const [newest] = await recoveryTimelines({ store, source: source.name }, context);
  return newest;
}

/**
 * How a source's WAL is archived, by what lies in its storages alone; no server is asked, and no receiver. The slot is not to be
 * seen from here.
 */
export function archivedWal(
  source: SourceConfig,
  { flushMs }: Pick<WalSettings, 'flushMs'>,
  found: readonly FoundArchive[],
  now: Date,
): WalProtection {
  const storages = found.map(({ name, newest }) => lagOf(name, newest, now));
  const read = found.flatMap(({ newest }) => (newest === undefined || newest === 'unread' ? [] : [newest]));
  const lags = storages.flatMap(({ lagMs }) => lagMs ?? []);
  const lagMs = lags.length === 0 ? undefined : Math.min(...lags);
  const [newest] = read;
  const isEmpty = read.every(({ windows }) => windows.length === 0);
  return {
    source: source.name,
    watchedSince: undefined,
    flushMs,
    earliest: newest?.windows.at(-1)?.earliest,
    latest: lagMs === undefined || isEmpty ? undefined : new Date(now.getTime() - lagMs),
    lagMs,
    lagBytes: undefined,
    gaps: newest && judgeGaps(newest, windowStart(source.wal?.keepMs, now)).missing.length,
    storedBytes: newest?.wal.storedBytes,
    storages,
    failure: undefined,
    slot: undefined,
    baseWantedFrom: read.map(baseWantedFrom).find((from) => from !== undefined),
  };
}

/** Where the newest stretch begins, if no base backup reaches into it and one reached into what was before. */
export function baseWantedFrom({ windows }: RecoveryTimeline): string | undefined {
  const newest = windows.at(-1);
  if (newest === undefined || newest.bases.length > 0) return undefined;
  return windows.some(({ bases, isCopied }) => bases.length > 0 && !isCopied) ? newest.from : undefined;
}

/** How long ago it was, as far as the archive says, that all that was committed was in it; and whether that is a guess. */
export function archivedLag(newest: RecoveryTimeline, now: Date): Pick<WalStorage, 'lagMs' | 'isGuess'> {
  return lagOf('', newest, now);
}

/**
 * A receiver's note counts, which it writes each minute, also while the server is idle; but not one of a clock that is ahead. Where
 * there is none, as with archive_command, or segments have come since without any, it is only known when they came. Those that a
 * base backup needs come with it, and with each copy of it: they are no sign that WAL is archived.
 */
function lagOf(storage: string, newest: FoundArchive['newest'], now: Date): WalStorage {
  if (newest === 'unread') return { storage, lagMs: undefined, isGuess: true };
  if (newest === undefined) return { storage, lagMs: undefined };
  const { wal } = newest;
  const { record } = wal;
  const { head } = record;
  const lagAt = (ms: number): number => Math.max(0, now.getTime() - ms);
  const furthest = furthestOf(wal);
  const cameMs = furthest && lastCame(furthest, wal.bases, record.segmentBytes).getTime();
  if (head === undefined) {
    if (cameMs === undefined) return { storage, lagMs: lagAt(Date.parse(record.createdAt)) };
    return { storage, lagMs: lagAt(cameMs), isGuess: true };
  }
  const writtenMs = Date.parse(head.writtenAt);
  if (writtenMs > now.getTime() + AHEAD_MS_MAX) {
    return { storage, lagMs: cameMs === undefined ? undefined : lagAt(cameMs), isGuess: true };
  }
  const sinceMs = furthestOf(wal, head)?.lastStored.getTime();
  if (sinceMs !== undefined && sinceMs > writtenMs + NOTE_MS_MAX)
    return { storage, lagMs: lagAt(sinceMs), isGuess: true };
  // A server whose clock is ahead has committed nothing in the future; and where something is gone of what was noted, what is left
  // says how much that was.
  const goneMs = noteOf(wal) === undefined && cameMs !== undefined ? cameMs : writtenMs;
  return { storage, lagMs: lagAt(Math.min(Date.parse(head.serverTime), writtenMs, goneMs)) };
}

/**
 * The last of what is archived on the way to the timeline that is looked at: what lies before it may have been copied there at any
 * time. Behind a receiver's note, only what did not come with base backups alone; undefined: there is none.
 */
function furthestOf({ ranges, followed, bases, record }: WalStatus, note?: WalHead): StoredPart | undefined {
  const parts = ranges
    .map((range): StoredPart => ({ ...range, from: parseLsn(range.from), to: parseLsn(range.to) }))
    .filter((part) => note === undefined || isNewsBehind(part, note, bases, record.segmentBytes));
  const way = new Set([followed?.timeline, ...(followed?.ancestors ?? []).map(({ timeline }) => timeline)]);
  return parts.findLast(({ timeline }) => way.has(timeline)) ?? parts.at(-1);
}

function isNewsBehind(
  part: StoredPart,
  { timeline, lsn }: WalHead,
  bases: WalStatus['bases'],
  segmentBytes: number,
): boolean {
  const noted = timeline === part.timeline ? parseLsn(lsn) : 0n;
  if (part.to <= noted) return false;
  const from = part.from > noted ? part.from : noted;
  return !isOfBasesAlone({ ...part, from }, bases, segmentBytes);
}
