import { formatBytes, formatDuration } from '../common/bytes.ts';
import { noteOf, type WalStatus } from '../operations/wal/status.ts';
import { type FoundWal, gapsJson, type WalFailure } from './archived-wal.ts';
import { formatFacts, formatTime } from './table.ts';

/** Where no server's WAL is archived. */
export const NO_WAL =
  'no WAL is archived but what each physical backup keeps for itself\nbegin with: pgark wal receive\n';

/** One archive as JSON. */
export function walJson(found: FoundWal, now: Date): Record<string, unknown> {
  const { source, storage, timeline, gaps } = found;
  const { record, followed, warnings, stretches, ranges, storedBytes } = timeline.wal;
  const { head } = record;
  const covered = noteOf(timeline.wal)?.serverTime;
  return {
    source,
    storage,
    system_identifier: record.systemIdentifier,
    segment_bytes: record.segmentBytes,
    stored_bytes: storedBytes,
    timeline: followed?.timeline,
    covered_until: covered,
    lag_seconds: covered === undefined ? undefined : Math.round(lagMs(covered, now) / 1_000),
    receiver: head && { slot: head.slot, host: head.host, pid: head.pid, written_at: head.writtenAt },
    stretches,
    gaps: gapsJson(found),
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

/** All archives for people. That there is none is said only where nothing is away that may hold one. */
export function describeWalOf(found: readonly FoundWal[], failures: readonly WalFailure[], now: Date): string {
  if (found.length === 0 && failures.length === 0) return NO_WAL;
  return [...found.map((each) => describeWal(each, now)), ...failures.map(describeFailure)].join('\n');
}

function describeFailure({ source, storage, error }: WalFailure): string {
  return formatFacts([
    ['source', source],
    ['storage', storage],
    ['archived', `not known: ${error.message}`],
  ]);
}

function describeWal({ source, storage, timeline, gaps, mayBeIn }: FoundWal, now: Date): string {
  const status = timeline.wal;
  const { record, followed, warnings, stretches, ranges, storedBytes } = status;
  const { head } = record;
  const last = stretches.at(-1);
  const covered = noteOf(status)?.serverTime;
  const but = gaps.missing.length === 0 ? '' : ', but for what is missing';
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
      covered &&
        `${formatDuration(lagMs(covered, now))}: all that was committed until ${covered} by the server’s clock is archived${but}`,
    ],
    ['received by', head && `pid ${head.pid} on ${head.host}, slot ${head.slot}`],
    ...warnings.map((words): [string, string] => ['beside it', words]),
    ...gaps.missing.map(({ from, to }): [string, string] => [
      'missing',
      `${from} to ${to}${mayBeIn.length === 0 ? '' : `, which may be in ${mayBeIn.join(' or ')}`}`,
    ]),
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
