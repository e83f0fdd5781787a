import { formatDuration } from '../common/bytes.ts';

/** To the second: `2026-11-20T02:00:00Z`. */
export function time(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

export function ago(since: Date, now: Date): string {
  return formatDuration(Math.max(0, now.getTime() - since.getTime()));
}
