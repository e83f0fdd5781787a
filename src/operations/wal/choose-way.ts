import { timelinesIn, type WalIndex } from '../../formats/wal/archive-index.ts';
import { isOnWay } from '../../formats/wal/recovery-path.ts';
import { endOf, type TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import type { BackedUpPart } from './physical-backups.ts';
import { lastCame } from './wal-of-bases.ts';

/** What tells which timeline is the server's, where several are archived. */
export interface WayEvidence {
  /** That of the server whose WAL is received now. */
  readonly live: number | undefined;
  /** Base backups of the server, oldest first. */
  readonly bases: readonly BackedUpPart[];
}

/** A timeline to look at, and sentences on others that somebody may mean. */
export interface ChosenWay {
  readonly followed: TimelineHistory;
  readonly warnings: readonly string[];
}

/**
 * Chooses the timeline that is looked at where nobody has named one: what is received; else the newest, unless the newest base
 * backup is not on the way to it, since then it is that of a copy which archives where its original does. `historyOf` gives
 * undefined for a history that cannot be read. Undefined where nothing is archived.
 */
export async function chooseWay(
  index: WalIndex,
  { live, bases }: WayEvidence,
  historyOf: (timeline: number) => Promise<TimelineHistory | undefined>,
): Promise<ChosenWay | undefined> {
  const timelines = timelinesIn(index);
  const [newest] = timelines;
  if (newest === undefined) return undefined;
  // One without a history is without what came before it, and nobody knows what is on the way to it.
  const alone = (timeline: number): TimelineHistory => ({ timeline, ancestors: [] });
  if (live !== undefined && timelines.includes(live)) {
    const followed = (await historyOf(live)) ?? alone(live);
    return {
      followed,
      warnings: live === newest ? [] : [passedOver(newest, `the WAL of timeline ${live} is received`)],
    };
  }
  const history = await historyOf(newest);
  const newestBase = bases.at(-1);
  if (history === undefined) return { followed: alone(newest), warnings: [] };
  if (newestBase !== undefined && !isOnWay(history, newestBase)) {
    for (const timeline of timelines.slice(1)) {
      const other = await historyOf(timeline);
      if (other === undefined || !isOnWay(other, newestBase)) continue;
      const why = `${newestBase.manifest.id}, the newest base backup, is on the way to timeline ${timeline}`;
      return { followed: other, warnings: [passedOver(newest, why)] };
    }
  }
  const later = cameLater(index, history, bases);
  return { followed: history, warnings: later.map((timeline) => maybeMeant(timeline, newest)) };
}

/** Other timelines that go on behind where they were left, and of which something came later than of this one. */
function cameLater(
  { ranges, segmentBytes }: WalIndex,
  history: TimelineHistory,
  bases: readonly BackedUpPart[],
): readonly number[] {
  const lastMs = (timeline: number, behind: bigint): number =>
    Math.max(
      0,
      ...(ranges.get(timeline) ?? [])
        .filter(({ to }) => to > behind)
        .map((range) => lastCame(range, bases, segmentBytes).getTime()),
    );
  const followedMs = lastMs(history.timeline, 0n);
  return [...ranges.keys()].filter(
    (timeline) => timeline !== history.timeline && lastMs(timeline, endOf(history, timeline) ?? 0n) > followedMs,
  );
}

function passedOver(newest: number, why: string): string {
  return `timeline ${newest}, the newest that is archived, goes another way, and is not looked at: ${why}; a recovery to the end asks for --timeline`;
}

function maybeMeant(timeline: number, newest: number): string {
  return `WAL of timeline ${timeline} was stored later than that of timeline ${newest}, which goes another way and is looked at since it is the newest: if timeline ${timeline} is the server’s, a new base backup says so`;
}
