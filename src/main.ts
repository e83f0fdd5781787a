import { readFileSync } from 'node:fs';
import { errorTable } from './common/error-table.ts';
import { PgarkError } from './common/errors.ts';
import { isRestoreCommand, RESTORE_COMMAND_FAILED } from './common/restore-command.ts';
import { poolMayGiveWay } from './common/thread-priority.ts';

const INTERRUPTED = 130;
const argv = process.argv.slice(2);
if (isRestoreCommand(argv)) {
  process.on('uncaughtException', (error) => {
    process.stderr.write(`error  ${error.stack ?? error.message}\n`);
    process.exit(RESTORE_COMMAND_FAILED);
  });
}
poolMayGiveWay();
const interrupt = new AbortController();
const hangupListeners = new Set<() => void>();
/** Whether it is not known yet who takes a hangup; one that came already waits. */
const loading = { goesOn: true, hungUp: false };

for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => end(name));
// Under nohup a hangup is to be ignored; a handler of ours would undo that.
if (!ignoresHangup()) process.on('SIGHUP', hangUp);
// A log that nobody takes (a collector that died, a full disk, a terminal that is gone) never ends the work.
process.stderr.on('error', () => {});
/** Exit status if the results could not be written, by no fault of whoever was to read them; undefined if they could. */
let unwritten: number | undefined;
process.stdout.on('error', outputFailed);

/** A service takes it for its own purpose; everything else ends with its terminal. */
function hangUp(): void {
  if (loading.goesOn) loading.hungUp = true;
  else if (hangupListeners.size === 0) end('SIGHUP');
  else for (const listener of hangupListeners) listener();
}

/**
 * A reader that goes away (`pgark list | head`) neither ends the work nor decides its exit status. What could not be written
 * for another reason is a failure, of the output alone: a backup goes on.
 */
function outputFailed(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') return;
  if (unwritten === undefined) process.stderr.write(`error  the output could not be written: ${error.message}\n`);
  unwritten = isRestoreCommand(argv) ? RESTORE_COMMAND_FAILED : errorTable.internal.exit;
  process.exitCode ||= unwritten;
}

function end(name: NodeJS.Signals): void {
  // The second signal does not wait for anything.
  if (interrupt.signal.aborted) process.exit(INTERRUPTED);
  interrupt.abort(new Error(`received ${name}`));
}

/** The directory that relative paths start from. Where it has been deleted, nothing can be done in it. */
function workingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    const error = new PgarkError('usage', 'the current directory does not exist any more', {
      hint: 'change into one that does (cd), then run the command again',
    });
    return process.exit(refuseCommand(argv, surroundings, error));
  }
}

/** Until the function returned is called, a hangup is the listener's and ends nothing. */
function onHangup(listener: () => void): () => void {
  hangupListeners.add(listener);
  return () => hangupListeners.delete(listener);
}

/** Whether the process was started with SIGHUP ignored, as Linux tells it: bit 0 of the mask of ignored signals. */
function ignoresHangup(): boolean {
  try {
    const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    return mask !== undefined && (Number.parseInt(mask.slice(-1), 16) & 1) === 1;
  } catch {
    return false;
  }
}

// The signals are listened for before all this is read, which takes its time.
const [{ openStore, openTracing, sealerOf }, { loadCommands, refuseCommand, runCommand }, { processTerminal }] =
  await Promise.all([import('./app.ts'), import('./cli/program.ts'), import('./cli/terminal.ts')]);
const surroundings = { terminal: processTerminal(process.env), environment: process.env };
const world = {
  ...surroundings,
  adapters: { openStore, sealerOf, openTracing },
  cwd: workingDirectory(),
  signal: interrupt.signal,
  onHangup,
};
const running = runCommand(argv, world, await loadCommands(argv));
// A command that takes hangups has said so by now: it does that first of all.
loading.goesOn = false;
if (loading.hungUp) hangUp();
const status = await running;
process.exitCode = status === 0 ? (unwritten ?? 0) : status;
