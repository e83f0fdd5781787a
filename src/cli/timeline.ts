import type { Command } from 'commander';
import type { RecoveryTimeline, RecoveryWindow } from '../operations/wal/recovery-window.ts';
import { type FoundWal, gapsJson, lookAtWal, type WalFailure } from './archived-wal.ts';
import { failureJson, failureOfStorages } from './attempt.ts';
import { action, type CliWorld } from './command.ts';
import { addExamples } from './help.ts';
import { jsonLines } from './json.ts';
import { text } from './option-text.ts';
import { formatTable, formatTime } from './table.ts';
import { NO_WAL } from './wal-report.ts';

export function registerTimeline(program: Command, world: CliWorld): void {
  const command = program
    .command('timeline')
    .summary('show to which moments a server can be brought back')
    .description(
      'Shows to which moments a server can be brought back: from the end of a base backup to the end of the WAL that follows it without a gap. It needs no key. Of several storages one that cannot be read is told of, and the exit status is 4 then.',
    )
    .argument('[database]', 'a database of the configuration (default: all)')
    .option('--storage <name>', 'the storage to look in (default: those that the WAL goes into)');
  addExamples(command, [['pgark timeline shop', 'how far back, and how near to now?']]);
  action(command, world, async (run, names, options) => {
    const config = await run.config(['storage']);
    const { found, failures, storageCount, isAnyRead } = await lookAtWal(run, config, names, text(options.storage));
    const json = {
      windows: found.flatMap(({ source, storage, timeline }) =>
        timeline.windows.map((window) => windowJson(source, storage, timeline, window)),
      ),
      gaps: found.flatMap(({ source, storage, timeline: { wal }, ...each }) =>
        gapsJson(each).map((gap) => ({
          source,
          storage,
          system_identifier: wal.record.systemIdentifier,
          ...gap,
        })),
      ),
      warnings: found.flatMap(describeTimelines).map((line) => line.trimEnd()),
      failures: failures.map(failureJson),
    };
    if (isAnyRead) {
      run.result(
        json,
        () => describe(found, failures.length === 0) + failures.map(describeFailure).join(''),
        () => [
          ...jsonLines('window', json.windows),
          ...jsonLines('gap', json.gaps),
          ...jsonLines(
            'warning',
            json.warnings.map((message) => ({ message })),
          ),
          ...jsonLines('failure', json.failures),
        ],
      );
    }
    const failure = failureOfStorages(run, failures, storageCount, isAnyRead);
    if (failure !== undefined) throw failure;
  });
}

/** That there is nothing is said only where nothing is away that may hold some. */
function describe(found: readonly FoundWal[], isAllRead: boolean): string {
  const rows = found.flatMap(({ source, storage, timeline }) =>
    timeline.windows.map(({ earliest, latest, bases, from, to }) => [
      source,
      storage,
      earliest === undefined ? 'no base backup' : formatTime(earliest.toISOString()),
      formatTime(latest.toISOString()),
      countOf(bases),
      `${from} to ${to}`,
    ]),
  );
  const titles = ['SOURCE', 'STORAGE', 'FROM', 'TO', 'BASES', 'WAL'].map((title) => ({ title }));
  const table = rows.length > 0 ? formatTable(titles, rows) : isAllRead ? NO_WAL : '';
  return table + found.flatMap((each) => [...describeGaps(each), ...describeTimelines(each)]).join('');
}

/** `5 (4 incremental)` */
function countOf(bases: RecoveryWindow['bases']): string {
  const incremental = bases.filter(({ parents }) => parents.length > 0).length;
  return incremental === 0 ? String(bases.length) : `${bases.length} (${incremental} incremental)`;
}

/** Whether a piece is lost, nobody knows while one is away that may have it. */
function describeGaps({ source, storage, gaps, mayBeIn }: FoundWal): readonly string[] {
  const so =
    mayBeIn.length === 0
      ? 'is missing, and no recovery goes through that'
      : `is missing here, and may be in ${mayBeIn.join(' or ')}, which could not be read`;
  return gaps.missing.map(({ from, to }) => `${source}, ${storage}: WAL from ${from} to ${to} ${so}\n`);
}

function describeFailure({ source, storage, error }: WalFailure): string {
  return `${source}, ${storage}: not known: ${error.message}\n`;
}

function describeTimelines({ source, storage, timeline }: FoundWal): readonly string[] {
  return timeline.wal.warnings.map((words) => `${source}, ${storage}: ${words}\n`);
}

function windowJson(
  source: string,
  storage: string,
  { wal }: RecoveryTimeline,
  { earliest, latest, bases, from, to }: RecoveryWindow,
): Record<string, unknown> {
  return {
    source,
    storage,
    system_identifier: wal.record.systemIdentifier,
    timeline: wal.followed?.timeline,
    earliest: earliest?.toISOString(),
    latest: latest.toISOString(),
    from,
    to,
    bases: bases.map(({ id, parents, endedAt, startLsn, stopLsn }) => ({
      id,
      parents,
      ended_at: endedAt,
      start_lsn: startLsn,
      stop_lsn: stopLsn,
    })),
  };
}
