import { PgarkError } from '../../common/errors.ts';
import { formatLsn, type Lsn, parseLsn } from './lsn.ts';
import { timelineDigits } from './segment.ts';

/** How one timeline ended, by the history of a later one. */
interface TimelineSwitch {
  readonly timeline: number;
  /** The first position that belongs to the next timeline, and no longer to this one. */
  readonly end: Lsn;
  /** For people; it may be empty. */
  readonly reason: string;
}

/** A timeline and all that came before it, oldest first: what `0000000N.history` says. Timeline 1 has no such file. */
export interface TimelineHistory {
  readonly timeline: number;
  readonly ancestors: readonly TimelineSwitch[];
}

/** `00000002.history`. */
export function historyFileName(timeline: number): string {
  return `${timelineDigits(timeline)}.history`;
}

/** The timeline that a history file is of; undefined for any other name. */
export function parseHistoryFileName(name: string): number | undefined {
  const digits = /^([0-9A-F]{8})\.history$/.exec(name)?.[1];
  const timeline = digits === undefined ? 0 : Number.parseInt(digits, 16);
  return timeline > 1 ? timeline : undefined;
}

/**
 * Reads a history file (src/backend/access/transam/timeline.c, readTimeLineHistory): a line for each ancestor with its
 * number, the position of its end and a reason; empty lines and those with `#` in front count for nothing. Error:
 * `corrupt` for what PostgreSQL would refuse.
 */
export function parseTimelineHistory(timeline: number, text: string): TimelineHistory {
  const name = historyFileName(timeline);
  const ancestors: TimelineSwitch[] = [];
  for (const line of text.split('\n')) {
    if (/^\s*(#|$)/.test(line)) continue;
    const match = /^\s*(\d{1,10})\s+([0-9A-F]{1,8}\/[0-9A-F]{1,8})(?:\s([^]*))?$/i.exec(line);
    if (match === null) throw damaged(name, `its line "${line.slice(0, 80)}" names no timeline and its end`);
    const [, number = '', end = '', reason = ''] = match;
    const entry = { timeline: Number(number), end: parseLsn(end), reason: reason.trim() };
    const before = ancestors.at(-1)?.timeline ?? 0;
    if (entry.timeline <= before) throw damaged(name, 'its timelines do not ascend');
    if (entry.timeline >= timeline) throw damaged(name, `it names timeline ${entry.timeline} as an ancestor`);
    ancestors.push(entry);
  }
  return { timeline, ancestors };
}

/** The timelines that a history file names and that have one themselves, oldest first: all but the first. */
export function ancestorsWithHistory(timeline: number, content: Buffer): readonly number[] {
  const { ancestors } = parseTimelineHistory(timeline, content.toString());
  return ancestors.map((each) => each.timeline).filter((each) => each > 1);
}

/** The file as PostgreSQL writes it: each line but the first has an empty one before it. */
export function formatTimelineHistory({ ancestors }: TimelineHistory): string {
  return ancestors.map(({ timeline, end, reason }) => `${timeline}\t${formatLsn(end)}\t${reason}\n`).join('\n');
}

/** The timeline that the byte at the position belongs to, seen from the end of the history. */
export function timelineOf({ timeline, ancestors }: TimelineHistory, lsn: Lsn): number {
  return ancestors.find(({ end }) => lsn < end)?.timeline ?? timeline;
}

/** Where a timeline of the history ended; undefined for the last one, and for one that is none of them. */
export function endOf({ ancestors }: TimelineHistory, timeline: number): Lsn | undefined {
  return ancestors.find((ancestor) => ancestor.timeline === timeline)?.end;
}

function damaged(name: string, why: string): PgarkError {
  return new PgarkError('corrupt', `${name} is not the history of a timeline: ${why}`);
}
