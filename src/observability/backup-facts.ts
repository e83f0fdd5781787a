import { AHEAD_MS_MAX } from '../common/clock.ts';
import { type BackupId, isIncrementalId } from '../repository/ids.ts';
import { describeSuspicions, type Manifest, sizesOf } from '../repository/manifest.ts';

/** Clocks that differ by less agree: a store may tell whole seconds, and requests take their time. */
const SKEW_MS_MIN = 60_000;

/** What the state of protection needs to know of a backup; a manifest may name thousands of objects. */
export interface BackupFacts {
  readonly id: BackupId;
  readonly source: string;
  readonly database: string;
  readonly format: Manifest['format'];
  /** What the backup holds is as of here. */
  readonly startedAt: Date;
  readonly endedAt: Date;
  readonly storedBytes: number;
  /** Whether it takes a key to read it. */
  readonly isEncrypted: boolean;
  /** Why it was suspicious when it was made; undefined if it was not. */
  readonly suspicion: string | undefined;
}

/** A backup that is suspicious, and why. */
export interface SuspicionFacts {
  readonly id: BackupId;
  readonly why: string;
}

/** What lies ahead of now was named by a clock that was ahead, and must not pass for a fresh one until then. */
export function ofThePast(backups: Iterable<BackupFacts>, now: Date): readonly BackupFacts[] {
  const latestMs = now.getTime() + AHEAD_MS_MAX;
  return [...backups].filter(({ startedAt }) => startedAt.getTime() <= latestMs);
}

/** The newest one that does not lie ahead of now. */
export function newestOf(backups: Iterable<BackupFacts>, now: Date): BackupFacts | undefined {
  let newest: BackupFacts | undefined;
  for (const backup of ofThePast(backups, now))
    if (newest === undefined || backup.startedAt > newest.startedAt) newest = backup;
  return newest;
}

/** Whether the newest full one of these is suspicious and nobody has called its size right: later ones tell more than earlier. */
export function suspicionOf(
  backups: readonly BackupFacts[],
  accepted: ReadonlySet<string> = new Set(),
): SuspicionFacts | undefined {
  let newest: BackupFacts | undefined;
  for (const backup of backups) {
    if (!isIncrementalId(backup.id) && (newest === undefined || backup.startedAt > newest.startedAt)) newest = backup;
  }
  if (newest?.suspicion === undefined || accepted.has(newest.id)) return undefined;
  return { id: newest.id, why: newest.suspicion };
}

/**
 * The facts of a manifest. Where the writing host's clock was ahead of the store's, the times are moved back by the
 * difference: a backup that claims to be of next year must not pass for a fresh one until then.
 */
export function backupFacts(manifest: Manifest): BackupFacts {
  const endedMs = Date.parse(manifest.endedAt);
  const aheadMs = endedMs - Date.parse(manifest.storeTime);
  const shiftMs = aheadMs > SKEW_MS_MIN ? aheadMs : 0;
  return {
    id: manifest.id,
    source: manifest.source,
    database: manifest.database.name,
    format: manifest.format,
    startedAt: new Date(Date.parse(manifest.startedAt) - shiftMs),
    endedAt: new Date(endedMs - shiftMs),
    storedBytes: sizesOf(manifest).storedBytes,
    isEncrypted: manifest.encryption !== undefined,
    suspicion: describeSuspicions(manifest),
  };
}
