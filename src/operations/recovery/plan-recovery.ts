import { isPgarkError, messageOf, PgarkError } from '../../common/errors.ts';
import type { ArchiveAccess, ArchivePath } from '../../formats/wal/archive-path.ts';
import { formatLsn, type Lsn } from '../../postgres/wal/lsn.ts';
import type { Landmark } from '../../postgres/wal/record.ts';
import { serverTimeOfDate, type ServerTime } from '../../postgres/wal/server-time.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { WalRecord } from '../../repository/wal-record.ts';
import type { OperationContext } from '../context.ts';
import { physicalBackups } from '../wal/physical-backups.ts';
import { archiveOf } from './archive-of.ts';
import { coveredUntil } from './covered-until.ts';
import { checkBranches, checkNewestBase } from './left-branches.ts';
import { locateTime } from './locate-time.ts';
import { newestBefore, type RecoverableStretch, recoverableStretches, type RecoveryBase } from './recovery-bases.ts';
import { describeTarget, type RecoveryTarget } from './recovery-target.ts';
import { lastRecord, scanWal } from './scan-wal.ts';
import { outsideWindow } from './window-words.ts';

/** Where a server that recovers stops. */
interface RecoveryStop {
  readonly lsn: Lsn;
  /** Behind the record that begins there; else before the first one that begins there or later. */
  readonly inclusive: boolean;
  /** Of the last transaction that is brought back, or the moment asked for, where that is known. */
  readonly time?: ServerTime | undefined;
}

/**
 * A base backup, and how far to go from it. Where nothing is archived behind the backup, as may be of a standby, the last record
 * is one that the server needs to be consistent: it can be given no target then, and goes to the end of the backup.
 */
export interface RecoveryPlan {
  readonly base: RecoveryBase;
  readonly timeline: number;
  readonly path: ArchivePath;
  readonly stop: RecoveryStop;
  /** Sentences on what the target may have meant, and is not on the way. */
  readonly warnings: readonly string[];
}

export interface PlanRecoveryRequest {
  /** A backup of the server; the one to begin with, if it was named. */
  readonly reference: Manifest;
  readonly isNamed: boolean;
  readonly target: Exclude<RecoveryTarget, { readonly kind: 'backup-end' }>;
  /** Default: the newest that is archived. */
  readonly timeline?: number | undefined;
}

/**
 * Finds from which base backup, along which timeline, and up to which record a server gets to the target; all WAL for it is
 * archived without a gap. Where the target is, is known before anything is restored: a server that has it not reached at the end
 * of its WAL fails, and one without any target takes a gap for the end. Errors: `outside-window`, `wal-gap`, `wal-unknown`,
 * `corrupt`, `wrong-key`, `key-missing`, `store-…`.
 */
export async function planRecovery(
  { reference, isNamed, target, timeline }: PlanRecoveryRequest,
  access: ArchiveAccess,
  context: OperationContext,
): Promise<RecoveryPlan> {
  const place = { store: access.store, source: reference.source };
  const { path, record } = await archiveOf(reference, timeline, access);
  const manifests = isNamed ? [reference] : await physicalBackups(place, context);
  if (timeline === undefined && target.kind === 'end') {
    await checkNewestBase(path, isNamed ? await besideNamed(reference, place, context) : manifests);
  }
  const stretches = recoverableStretches(path, manifests);
  const world: World = { path, stretches, target, record, wanted: isNamed ? reference : undefined };
  if (stretches.length === 0) throw noBase(world);
  const branches = timeline === undefined ? await checkBranches(path, target, context) : undefined;
  const plan = await planIn(world);
  return branches === undefined ? plan : { ...plan, warnings: branches.warningsFor(plan) };
}

/** All of the server. One whose manifest is damaged keeps another one that was named from nothing. */
async function besideNamed(
  reference: Manifest,
  place: Parameters<typeof physicalBackups>[0],
  context: OperationContext,
): Promise<readonly Manifest[]> {
  try {
    return await physicalBackups(place, context);
  } catch (error) {
    if (!isPgarkError(error, 'repository-damaged')) throw error;
    context.logger.warning(
      'restore.manifest_unread',
      `whether it is the newest backup is not known: ${messageOf(error)}`,
    );
    return [reference];
  }
}

type TimedLandmark = Extract<Landmark, { readonly time: ServerTime }>;

interface World {
  readonly path: ArchivePath;
  readonly stretches: readonly RecoverableStretch[];
  readonly target: PlanRecoveryRequest['target'];
  readonly record: WalRecord | undefined;
  readonly wanted: Manifest | undefined;
}

async function planIn(world: World): Promise<RecoveryPlan> {
  const { target } = world;
  switch (target.kind) {
    case 'end':
      return toTheEnd(world);
    case 'lsn':
      return toLsn(world, target.lsn);
    case 'time':
      return toTime(world, target.time);
    case 'xid':
    case 'restore-point':
      return toLandmark(world);
    default:
      return target satisfies never;
  }
}

async function toTheEnd(world: World): Promise<RecoveryPlan> {
  const { path, stretches } = world;
  const stretch = stretches.at(-1);
  const base = stretch?.bases.at(-1);
  const end = path.stretches.at(-1);
  if (stretch === undefined || base === undefined || end === undefined) throw noBase(world);
  if (stretch.to < end.to) {
    throw new PgarkError(
      'wal-gap',
      `the write-ahead log from ${formatLsn(stretch.to)} to ${formatLsn(end.from)} is not archived, and no base backup was made behind it`,
      { hint: `the last point before the gap: --lsn ${formatLsn(stretch.to)}` },
    );
  }
  return planOf(world, base, await endOf(path, base, stretch.to));
}

async function toLsn(world: World, lsn: Lsn): Promise<RecoveryPlan> {
  const { path, stretches } = world;
  const stretch = stretches.find(({ from, to }) => from <= lsn && lsn <= to);
  const base = stretch && newestBefore(stretch, lsn);
  if (stretch === undefined || base === undefined) throw outsideWindow(world);
  const last = await endOf(path, base, stretch.to);
  return planOf(world, base, last.lsn < lsn ? last : { lsn, inclusive: false });
}

async function toTime(world: World, time: ServerTime): Promise<RecoveryPlan> {
  const { path, stretches, record } = world;
  for (const stretch of [...stretches].reverse()) {
    const [oldest] = stretch.bases;
    if (oldest === undefined) continue;
    const { next, hasEarlier } = await locateTime(path, { from: oldest.startLsn, to: stretch.to }, time);
    // Without any transaction since it was begun, its own clock has to do.
    const isBefore = !hasEarlier && time < serverTimeOfDate(new Date(oldest.manifest.startedAt));
    const base = newestBefore(stretch, next?.lsn ?? stretch.to);
    if (base === undefined || isBefore) continue;
    if (next !== undefined) return planOf(world, base, { lsn: next.lsn, inclusive: false, time });
    const isLast = stretch.to === path.stretches.at(-1)?.to;
    const covered = await coveredUntil(path, stretch, isLast ? record : undefined);
    if (covered === undefined || time > covered) break;
    return planOf(world, base, { ...(await endOf(path, base, stretch.to)), time });
  }
  throw outsideWindow(world);
}

/** The newest of its name or number, from the newest base that comes before it. */
async function toLandmark(world: World): Promise<RecoveryPlan> {
  const { path, stretches, target } = world;
  for (const { bases, to } of [...stretches].reverse()) {
    let end = to;
    for (const base of [...bases].reverse()) {
      let stop: RecoveryStop | undefined;
      await scanWal(path, { from: base.stopLsn, to: end }, (landmark) => {
        if (landmark.lsn < base.stopLsn || !isMeant(landmark, target)) return;
        stop = { lsn: landmark.lsn, inclusive: true, time: landmark.time };
      });
      if (stop !== undefined) return planOf(world, base, stop);
      // Its record may begin here and end behind the later base.
      end = base.stopLsn + BigInt(path.segmentBytes) < to ? base.stopLsn + BigInt(path.segmentBytes) : to;
    }
  }
  throw outsideWindow(world);
}

function isMeant(landmark: Landmark, target: PlanRecoveryRequest['target']): landmark is TimedLandmark {
  switch (landmark.kind) {
    case 'restore-point':
      return target.kind === 'restore-point' && landmark.name === target.name;
    case 'commit':
    case 'abort':
      return target.kind === 'xid' && landmark.xid === target.xid;
    default:
      return false;
  }
}

/** Whether there is anything behind the backup to go to. */
export function goesBeyondBase({ base, stop }: RecoveryPlan): boolean {
  return stop.lsn >= base.stopLsn;
}

/** Behind the last record that is archived whole. */
async function endOf(path: ArchivePath, base: RecoveryBase, to: Lsn): Promise<RecoveryStop> {
  const last = await lastRecord(path, { from: base.startLsn, to });
  if (last === undefined) {
    throw new PgarkError('corrupt', `no record begins in the write-ahead log up to ${formatLsn(to)}`);
  }
  return { lsn: last.lsn, inclusive: true };
}

function planOf({ path }: World, base: RecoveryBase, stop: RecoveryStop): RecoveryPlan {
  return { base, timeline: path.history.timeline, path, stop, warnings: [] };
}

function noBase({ path, wanted, target }: World): PgarkError {
  const { timeline } = path.history;
  if (wanted !== undefined && wanted.timeline !== timeline) {
    return new PgarkError(
      'outside-window',
      `${wanted.id} is of timeline ${wanted.timeline}, which does not lead to timeline ${timeline} there`,
      { hint: `follow its own: --timeline ${wanted.timeline}` },
    );
  }
  return new PgarkError(
    'outside-window',
    `no base backup of timeline ${timeline}, or of one that it came from, leads to ${describeTarget(target)}: their write-ahead log is not archived`,
    { hint: 'pgark wal status shows what is archived; another timeline is followed with --timeline' },
  );
}
