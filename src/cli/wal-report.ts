import { formatBytes, formatDuration } from '../common/bytes.ts';
import type { JudgedGaps } from '../operations/wal/recovery-window.ts';
import type { WalStatus } from '../operations/wal/status.ts';
import { formatFacts, formatTime } from './table.ts';

export interface FoundWal {
  readonly source: string;
  readonly storage: string;
  readonly status: WalStatus;
  readonly gaps: JudgedGaps;
}

/** One archive as JSON. */
export function walJson({ source, storage, status, gaps }: FoundWal, now: Date): Record<string, unknown> {
  const { record, followed, warnings, stretches, ranges, storedBytes } = status;
  const { head } = record;
  return {
    source,
    storage,
    system_identifier: record.systemIdentifier,
    segment_bytes: record.segmentBytes,
    stored_bytes: storedBytes,
    timeline: followed?.timeline,
    covered_until: head?.serverTime,
    lag_seconds: head === undefined ? undefined : Math.round(lagMs(head.serverTime, now) / 1_000),
    receiver: head && { slot: head.slot, host: head.host, pid: head.pid, written_at: head.writtenAt },
    stretches,
    gaps: gaps.missing,
    let_go: gaps.letGo,
    warnings,
    ranges: ranges.map((range) => ({
      timeline: range.timeline,
      from: range.from,
      to: range.to,
      segments: range.segments,
      stored_bytes: range.storedBytes,
      first_stored: range.firstStored.toISOString(),
      last_stored: range.lastStored.toISOString(),
    })),
  };
}

/** One archive for people. */
export function describeWal({ source, storage, status, gaps }: FoundWal, now: Date): string {
  const { record, followed, warnings, stretches, ranges, storedBytes } = status;
  const { head } = record;
  const last = stretches.at(-1);
  return formatFacts([
    ['source', source],
    ['storage', storage],
    ['system identifier', record.systemIdentifier],
    ['timeline', followed === undefined ? undefined : String(followed.timeline)],
    ['archived', last === undefined ? 'nothing' : `${last.from} to ${last.to} without a gap`],
    [
      'stored',
      `${formatBytes(storedBytes)}, ${ranges.reduce((sum, { segments }) => sum + segments, 0)} segments of ${formatBytes(record.segmentBytes)}`,
    ],
    ['last stored', last === undefined ? undefined : formatTime(newestStored(status).toISOString())],
    [
      'loss window',
      head &&
        `${formatDuration(lagMs(head.serverTime, now))}: all that was committed until ${head.serverTime} by the server’s clock is archived`,
    ],
    ['received by', head && `pid ${head.pid} on ${head.host}, slot ${head.slot}`],
    ...warnings.map((words): [string, string] => ['beside it', words]),
    ...gaps.missing.map(({ from, to }): [string, string] => ['missing', `${from} to ${to}`]),
    ...gaps.letGo.map(({ from, to }): [string, string] => ['let go', `${from} to ${to}, which no recovery needs`]),
    ...stretches.slice(0, -1).map(({ from, to }): [string, string] => ['before', `${from} to ${to}`]),
  ]);
}

function newestStored({ ranges }: WalStatus): Date {
  return ranges.reduce((newest, { lastStored }) => (lastStored > newest ? lastStored : newest), new Date(0));
}

function lagMs(serverTime: string, now: Date): number {
  return Math.max(0, now.getTime() - Date.parse(serverTime));
}
