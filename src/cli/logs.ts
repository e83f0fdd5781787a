import type { Command } from 'commander';
import { PgarkError } from '../common/errors.ts';
import { followRunLog, type RunLogPart, showRunLog } from '../operations/run-logs.ts';
import { action, type CliWorld, type CommandRun } from './command.ts';
import { addExamples } from './help.ts';
import { formatJson } from './json.ts';
import { openStorages, runJson } from './runs.ts';

type LogLine = RunLogPart['lines'][number];

export function registerLogs(program: Command, world: CliWorld): void {
  const command = program
    .command('logs')
    .summary('print the log of a run')
    .description(
      'Prints the last lines of the log of a run, as the storage keeps them for 30 days; -o ndjson prints them as JSON lines.',
    )
    .argument('<run>', 'id of a run, or the beginning of one')
    .option('-f, --follow', 'go on until the run is over')
    .option('--storage <name>', 'only this storage (default: all)');
  addExamples(command, [['pgark logs 01KAF8Z7 -f', 'watch a run that another host is at']]);
  action(command, world, async (run, [name = ''], options) => {
    const config = await run.config(['storage']);
    const context = run.context(config);
    const { storages, failures: unopened } = await openStorages(run, config, options.storage);
    const request = { storages, unopened, run: name };
    if (options.follow === true) {
      if (run.options.output === 'json') {
        throw new PgarkError('usage', 'a log that is followed is no single JSON object', { hint: 'use -o ndjson' });
      }
      let last: RunLogPart | undefined;
      for await (const part of followRunLog(request, context)) {
        print(run, part);
        last = part;
      }
      if (last !== undefined) finish(run, last);
      return;
    }
    const log = await showRunLog(request, context);
    if (run.options.output === 'json') {
      run.result({ run: runJson(log.run), lines_cut: log.linesCut, lines: log.lines.map(lineJson) }, () => '');
    } else {
      print(run, log);
    }
    finish(run, log);
  });
}

function print(run: CommandRun, { lines, linesCut }: RunLogPart): void {
  if (linesCut > 0) run.note(`(${linesCut} earlier lines were not kept)\n`);
  for (const line of lines) {
    const text = run.json ? formatJson(lineJson(line), 'ndjson') : `${describe(line)}\n`;
    run.print(() => run.world.terminal.out(text));
  }
}

/** What the log does not say by itself. Error: `run-not-found` where there is no log, or that of a storage that may have it. */
function finish(run: CommandRun, { run: summary, hasLog, unknown }: RunLogPart): void {
  if (unknown !== undefined) throw unknown;
  if (!hasLog) {
    const [first] = summary.storages.flatMap(({ error }) => error ?? []);
    throw new PgarkError(
      'run-not-found',
      `the storage has no log of ${summary.id}, which ${first === undefined ? summary.state : `failed: ${first.message}`}`,
      { hint: 'logs are kept for 30 days; pgark runs -o json shows what the record of a run says' },
    );
  }
  if (summary.state === 'interrupted' && summary.endedAt === undefined) {
    run.note(`the run died without a word (host ${summary.host}, pid ${summary.pid})\n`);
  }
}

function lineJson({ time, level, event, message, fields }: LogLine): Record<string, unknown> {
  return { time, level, event, message, ...fields };
}

/** As the run's own log for people looks; what lies in a storage may not move the cursor about. */
function describe({ time, level, message, fields }: LogLine): string {
  const hint = typeof fields['hint'] === 'string' ? `\n  hint ${fields['hint']}` : '';
  return [time, level, message + hint]
    .filter((part) => part !== undefined)
    .join(' ')
    .replaceAll(/[^\P{Cc}\n]/gu, '�');
}
