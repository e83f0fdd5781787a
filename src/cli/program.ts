import { Command, CommanderError, Option } from 'commander';
import { asPgarkError, PgarkError } from '../common/errors.ts';
import { errorTable, exitCodes } from '../common/error-table.ts';
import { isRestoreCommand, RESTORE_COMMAND_FAILED } from '../common/restore-command.ts';
import { pgarkVersion } from '../version.ts';
import { registerBackup } from './backup.ts';
import { registerCheck } from './check.ts';
import type { CliWorld, GlobalOptions } from './command.ts';
import { registerConfig } from './config.ts';
import { registerDaemon } from './daemon.ts';
import { registerDemo } from './demo.ts';
import { registerDoctor } from './doctor.ts';
import { registerDownload } from './download.ts';
import { registerDrill } from './drill.ts';
import { describeError, reportError } from './errors.ts';
import { ExitStatus } from './exit-status.ts';
import { registerHealthcheck } from './healthcheck.ts';
import { addExamples, registerHelp } from './help.ts';
import { registerKey } from './key.ts';
import { registerList } from './list.ts';
import { registerLogs } from './logs.ts';
import { registerOnce } from './once.ts';
import { registerNotify } from './notify.ts';
import { registerPrune } from './prune.ts';
import { registerRestore } from './restore.ts';
import { registerRuns } from './runs.ts';
import { registerShow } from './show.ts';
import { usageError } from './usage.ts';
import { formatJson } from './json.ts';
import { registerTimeline } from './timeline.ts';
import { registerVerify } from './verify.ts';
import { registerWal } from './wal.ts';

const HELP_COLUMNS = 80;

/**
 * Runs one command line and returns the exit status. Every error is printed here, once, as message and hint on stderr; and
 * where the output is to be JSON and the command has printed none, as an object on stdout too.
 */
export async function runCli(argv: readonly string[], world: CliWorld): Promise<number> {
  const { terminal } = world;
  let hasResult = false;
  const out = (text: string): void => {
    hasResult = true;
    terminal.out(text);
  };
  const program = buildProgram({ ...world, terminal: { ...terminal, out } });
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return 0;
  } catch (thrown) {
    if (thrown instanceof ExitStatus) return thrown.status;
    // What is left of the parser's own after `exitOverride` below: help or the version was printed.
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : errorTable.usage.exit;
    const error =
      world.signal.aborted && !(thrown instanceof PgarkError)
        ? new PgarkError('interrupted', 'interrupted; nothing half-done was kept')
        : asPgarkError(thrown);
    terminal.err(describeError(error, { verbose: argv.includes('-v') || argv.includes('--verbose') }));
    const { output } = program.opts<GlobalOptions>();
    if (!hasResult && output !== undefined && output !== 'table') {
      terminal.out(formatJson({ error: reportError(error) }, output));
    }
    return isRestoreCommand(argv) ? RESTORE_COMMAND_FAILED : error.exitCode;
  }
}

export function buildProgram(world: CliWorld): Command {
  const { terminal } = world;
  const program = new Command('pgark')
    .description('PostgreSQL backup and restore: streamed to storage and back, encrypted, retained, proven.')
    .version(pgarkVersion, '-V, --version', 'print the version')
    .option('-c, --config <file>', 'configuration file (default: PGARK_CONFIG, else the environment)')
    .addOption(
      new Option('-o, --output <format>', 'form of the result').choices(['table', 'json', 'ndjson']).default('table'),
    )
    .option('-q, --quiet', 'say nothing but results and errors')
    .option('-v, --verbose', 'say more, and where errors come from')
    .option('--no-progress', 'show no progress')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    .showSuggestionAfterError(true)
    .configureOutput({
      writeOut: terminal.out,
      writeErr: terminal.err,
      outputError: () => {},
      getOutHelpWidth: () => HELP_COLUMNS,
      getErrHelpWidth: () => HELP_COLUMNS,
    });
  addExamples(program, [
    ['pgark doctor', 'try the connections and say what to mend'],
    ['pgark backup', 'back up the database that DATABASE_URL names'],
    ['pgark list', 'see what there is'],
    ['pgark restore latest --to-db shop_copy', 'restore the newest backup into a new database'],
  ]);
  program.addHelpText('after', describeExitCodes);
  for (const register of [
    registerBackup,
    registerRestore,
    registerList,
    registerShow,
    registerDownload,
    registerVerify,
    registerDrill,
    registerPrune,
    registerWal,
    registerTimeline,
    registerRuns,
    registerLogs,
    registerDaemon,
    registerOnce,
    registerDoctor,
    registerCheck,
    registerHealthcheck,
    registerNotify,
    registerConfig,
    registerKey,
    registerDemo,
    registerHelp,
  ]) {
    register(program, world);
  }
  for (const command of everyCommand(program)) {
    command.copyInheritedSettings(program).helpOption('-h, --help', 'print this help').allowExcessArguments(false);
    if (command !== program && command.commands.length > 0) {
      command.helpCommand('help [command]', 'print the help of a command');
    }
    command.exitOverride((error) => {
      throw error.exitCode === 0 || error.code === 'commander.help' ? error : usageError(error, command);
    });
  }
  return program;
}

/** The command itself and all below it. */
function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}

/** Those that an error can lead to; the table has some more, which no command of this version ends with. */
function describeExitCodes(): string {
  const used = new Set<number>([0, ...Object.values(errorTable).map(({ exit }) => exit)]);
  const rows = Object.entries(exitCodes).filter(([code]) => used.has(Number(code)));
  return ['\nExit codes:', ...rows.map(([code, meaning]) => `  ${code.padStart(3)}  ${meaning}`)].join('\n');
}
