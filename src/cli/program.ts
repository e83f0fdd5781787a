import { Command, CommanderError, Option } from 'commander';
import { asPgarkError, PgarkError } from '../common/errors.ts';
import { errorTable, exitCodes } from '../common/error-table.ts';
import { isRestoreCommand, RESTORE_COMMAND_FAILED } from '../common/restore-command.ts';
import { loadLogFormat } from '../config/load.ts';
import { pgarkVersion } from '../version.ts';
import type { CliWorld, GlobalOptions, ProcessWorld } from './command.ts';
import { formatError, reportError } from './errors.ts';
import { ExitStatus } from './exit-status.ts';
import { addExamples, registerHelp } from './help.ts';
import { formatJson } from './json.ts';
import { LogForm } from './log-form.ts';
import { usageError } from './usage.ts';

type Register = (program: Command, world: CliWorld) => void;

/** In the order of the help. What only one of them needs is loaded with it: most of what a start takes is reading code. */
const COMMANDS: Readonly<Record<string, () => Promise<Register>>> = {
  backup: async () => (await import('./backup.ts')).registerBackup,
  restore: async () => (await import('./restore.ts')).registerRestore,
  list: async () => (await import('./list.ts')).registerList,
  show: async () => (await import('./show.ts')).registerShow,
  diff: async () => (await import('./diff.ts')).registerDiff,
  download: async () => (await import('./download.ts')).registerDownload,
  copy: async () => (await import('./copy.ts')).registerCopy,
  verify: async () => (await import('./verify.ts')).registerVerify,
  drill: async () => (await import('./drill.ts')).registerDrill,
  accept: async () => (await import('./accept.ts')).registerAccept,
  prune: async () => (await import('./prune.ts')).registerPrune,
  pin: async () => (await import('./pin.ts')).registerPin,
  unpin: async () => (await import('./pin.ts')).registerUnpin,
  wal: async () => (await import('./wal.ts')).registerWal,
  timeline: async () => (await import('./timeline.ts')).registerTimeline,
  runs: async () => (await import('./runs.ts')).registerRuns,
  logs: async () => (await import('./logs.ts')).registerLogs,
  daemon: async () => (await import('./daemon.ts')).registerDaemon,
  once: async () => (await import('./once.ts')).registerOnce,
  init: async () => (await import('./init.ts')).registerInit,
  doctor: async () => (await import('./doctor.ts')).registerDoctor,
  storage: async () => (await import('./storage.ts')).registerStorage,
  check: async () => (await import('./check.ts')).registerCheck,
  healthcheck: async () => (await import('./healthcheck.ts')).registerHealthcheck,
  notify: async () => (await import('./notify.ts')).registerNotify,
  config: async () => (await import('./config.ts')).registerConfig,
  key: async () => (await import('./key.ts')).registerKey,
  completion: async () => (await import('./completion.ts')).registerCompletion,
  demo: async () => (await import('./demo.ts')).registerDemo,
};

const HELP_COLUMNS = 80;

/**
 * Runs one command line and returns the exit status. Every error is printed here, once, as message and hint on stderr, or as
 * one line of JSON where the log is JSON; and where the output is to be JSON and the command has printed none, as an object
 * on stdout too.
 */
export async function runCli(argv: readonly string[], world: ProcessWorld): Promise<number> {
  return runCommand(argv, world, await loadCommands(argv));
}

/** The same with what was loaded for it. The command begins before this gives its promise. */
export async function runCommand(
  argv: readonly string[],
  world: ProcessWorld,
  commands: readonly Register[],
): Promise<number> {
  const { terminal, environment, cwd } = world;
  const log = new LogForm(operandsOf(argv), world);
  let hasResult = false;
  const out = (text: string): void => {
    hasResult = true;
    terminal.out(text);
  };
  const program = buildProgram({ ...world, terminal: { ...terminal, out }, log }, commands);
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
    const { output, config } = program.opts<GlobalOptions>();
    if (!log.isSettled) {
      log.settle(await loadLogFormat({ ...(config === undefined ? {} : { file: config }), env: environment, cwd }));
    }
    const status = say(argv, world, error, log);
    if (!hasResult && output !== undefined && output !== 'table') {
      const json = { error: reportError(error) };
      terminal.out(formatJson(output === 'json' ? json : { kind: 'error', ...json }, output));
    }
    return status;
  }
}

/** Says the error of a command that cannot even begin, and returns the exit status. */
export function refuseCommand(
  argv: readonly string[],
  surroundings: Pick<ProcessWorld, 'terminal' | 'environment'>,
  error: PgarkError,
): number {
  return say(argv, surroundings, error, new LogForm(operandsOf(argv), surroundings));
}

function say(
  argv: readonly string[],
  { terminal }: Pick<ProcessWorld, 'terminal'>,
  error: PgarkError,
  log: LogForm,
): number {
  const isFetch = isRestoreCommand(argv);
  const verbose = argv.includes('-v') || argv.includes('--verbose');
  // A restore_command writes into the log of a server, which is text.
  terminal.err(formatError(error, isFetch ? 'text' : log.format, { verbose }));
  return isFetch ? RESTORE_COMMAND_FAILED : error.exitCode;
}

/** What is on a command line besides options: the names of the command first. None where that is not certain. */
function operandsOf(argv: readonly string[]): readonly string[] {
  return readLine(argv).operands;
}

/** The same, and whether it asks for the version, whatever else stands there. */
function readLine(argv: readonly string[]): { readonly operands: readonly string[]; readonly asksVersion: boolean } {
  try {
    const silent = { writeOut: () => {}, writeErr: () => {}, outputError: () => {} };
    const program = withGlobalOptions(new Command()).exitOverride().configureOutput(silent);
    return { operands: program.parseOptions([...argv]).operands, asksVersion: false };
  } catch (error) {
    return { operands: [], asksVersion: error instanceof CommanderError && error.code === 'commander.version' };
  }
}

function withGlobalOptions(program: Command): Command {
  return program
    .version(pgarkVersion, '-V, --version', 'print the version')
    .option('-c, --config <file>', 'configuration file (default: PGARK_CONFIG, else the environment)')
    .addOption(
      new Option('-o, --output <format>', 'form of the result').choices(['table', 'json', 'ndjson']).default('table'),
    )
    .option('-q, --quiet', 'say nothing but results and errors')
    .option('-v, --verbose', 'say more, and where errors come from')
    .option('--no-progress', 'show no progress');
}

/**
 * The command that is called, or all of them where it takes all to say what is wrong, to help, or to complete. The version is
 * told without any.
 */
export async function loadCommands(argv: readonly string[] = []): Promise<readonly Register[]> {
  const { operands, asksVersion } = readLine(argv);
  if (asksVersion) return [];
  const [called = ''] = operands;
  const isOne = called !== 'completion' && Object.hasOwn(COMMANDS, called);
  return Promise.all(Object.entries(COMMANDS).flatMap(([name, load]) => (!isOne || name === called ? [load()] : [])));
}

export function buildProgram(world: CliWorld, commands: readonly Register[]): Command {
  const { terminal } = world;
  const program = withGlobalOptions(new Command('pgark'))
    .description('PostgreSQL backup and restore: streamed to storage and back, encrypted, retained, proven.')
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
  for (const register of commands) register(program, world);
  registerHelp(program);
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
