import type { Command } from 'commander';
import {
  type JudgedGaps,
  judgeGaps,
  type RecoveryTimeline,
  type RecoveryWindow,
  recoveryTimelines,
  windowStart,
} from '../operations/wal/recovery-window.ts';
import { action, chooseSources, type CliWorld } from './command.ts';
import { addExamples } from './help.ts';
import { jsonLines } from './json.ts';
import { formatTable, formatTime } from './table.ts';
import { storesToReadFrom } from './wal.ts';

export function registerTimeline(program: Command, world: CliWorld): void {
  const command = program
    .command('timeline')
    .summary('show to which moments a server can be brought back')
    .description(
      'Shows to which moments a server can be brought back: from the end of a base backup to the end of the WAL that follows it without a gap. It needs no key.',
    )
    .argument('[database]', 'a database of the configuration (default: all)')
    .option('--storage <name>', 'the storage to look in (default: those that the WAL goes into)');
  addExamples(command, [['pgark timeline shop', 'how far back, and how near to now?']]);
  action(command, world, async (run, names, options) => {
    const config = await run.config(['storage']);
    const context = run.context(config);
    const found: Found[] = [];
    for (const source of chooseSources(config, names)) {
      const storage = typeof options.storage === 'string' ? options.storage : undefined;
      for (const { name, store } of await storesToReadFrom(run, config, source, storage)) {
        for (const timeline of await recoveryTimelines({ store, source: source.name }, context)) {
          const gaps = judgeGaps(timeline, windowStart(source.wal?.keepMs, context.clock.now()));
          found.push({ source: source.name, storage: name, timeline, gaps });
        }
      }
    }
    const json = {
      windows: found.flatMap(({ source, storage, timeline }) =>
        timeline.windows.map((window) => windowJson(source, storage, timeline, window)),
      ),
      gaps: found.flatMap(({ source, storage, timeline: { wal }, gaps }) =>
        gaps.missing.map((gap) => ({ source, storage, system_identifier: wal.record.systemIdentifier, ...gap })),
      ),
      warnings: found.flatMap(describeTimelines).map((line) => line.trimEnd()),
    };
    run.result(
      json,
      () =>
        formatTable(
          ['SOURCE', 'STORAGE', 'FROM', 'TO', 'BASES', 'WAL'].map((title) => ({ title })),
          found.flatMap(({ source, storage, timeline }) =>
            timeline.windows.map(({ earliest, latest, bases, from, to }) => [
              source,
              storage,
              earliest === undefined ? 'no base backup' : formatTime(earliest.toISOString()),
              formatTime(latest.toISOString()),
              countOf(bases),
              `${from} to ${to}`,
            ]),
          ),
        ) + found.flatMap((each) => [...describeGaps(each), ...describeTimelines(each)]).join(''),
      () => [
        ...jsonLines('window', json.windows),
        ...jsonLines('gap', json.gaps),
        ...jsonLines(
          'warning',
          json.warnings.map((message) => ({ message })),
        ),
      ],
    );
  });
}

/** `5 (4 incremental)` */
function countOf(bases: RecoveryWindow['bases']): string {
  const incremental = bases.filter(({ parents }) => parents.length > 0).length;
  return incremental === 0 ? String(bases.length) : `${bases.length} (${incremental} incremental)`;
}

interface Found {
  readonly source: string;
  readonly storage: string;
  readonly timeline: RecoveryTimeline;
  readonly gaps: JudgedGaps;
}

function describeGaps({ source, storage, gaps }: Found): readonly string[] {
  return gaps.missing.map(
    ({ from, to }) =>
      `${source}, ${storage}: WAL from ${from} to ${to} is missing, and no recovery goes through that\n`,
  );
}

function describeTimelines({ source, storage, timeline }: Found): readonly string[] {
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
