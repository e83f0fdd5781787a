import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import type { Clock } from '../common/clock.ts';
import { messageOf, PgarkError } from '../common/errors.ts';
import { formatDuration } from '../common/bytes.ts';
import type { Logger } from '../common/log.ts';
import type { SourceConfig } from '../config/model.ts';
import type { RestoreFacts } from '../operations/restore-around.ts';

type HooksConfig = NonNullable<SourceConfig['hooks']>;
export type HookConfig = HooksConfig['beforeBackup'][number];

export type HookMoment = 'before_backup' | 'after_backup' | 'before_restore' | 'after_restore';

/** What a hook is told, in variables of its environment; what is not known is not set. */
export interface HookFacts {
  readonly source: string;
  /** Of a source that is one database; of a restore, the one that the backup is of. */
  readonly database?: string | undefined;
  /** Those that have a new backup. After the run only. */
  readonly databases?: readonly string[] | undefined;
  readonly job?: string | undefined;
  readonly storages?: readonly string[] | undefined;
  readonly runId?: string | undefined;
  /** After the run only. */
  readonly result?: 'succeeded' | 'partial' | 'failed' | 'interrupted' | undefined;
  readonly backupId?: string | undefined;
  readonly storedBytes?: number | undefined;
  /** Of a restore. */
  readonly target?: RestoreFacts['target'] | undefined;
  /** Of the run, if it failed. */
  readonly error?: PgarkError | undefined;
}

export interface HookContext {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Ends a hook that runs, with all the processes it started; and no further one begins. */
  readonly signal: AbortSignal;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

const LINES_MAX = 1_000;
const LINE_CHARACTERS_MAX = 2_000;
const LAST_LINES_MAX = 5;
const KILL_AFTER_MS = 5_000;
/** For all hooks after a run that was cut off; the process is to end soon. */
const AFTER_ABORT_MS = 4_000;
/** How long the output of a hook may stay open after its end, by what it left in the background. */
const DRAIN_MS = 1_000;
/** Linux starts no program with a variable of 128 KiB. */
const VARIABLE_BYTES_MAX = 100_000;

/** What programs need to find their way about. Nothing else of our own environment, which holds passwords and keys. */
const PASSED_ON = ['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'TMPDIR', 'TZ', 'LANG', 'LC_ALL', 'LC_CTYPE'] as const;

/**
 * Runs hooks one after the other, each a program with arguments, without a shell. One that fails, cannot be started or takes
 * too long is a warning (`on_error: warn`), or ends the row: then this rejects with `hook-failed`. Before a backup that
 * means that none is made, before a restore that nothing is touched; after one it takes nothing back. Aborted, it rejects with the signal's reason; but what is to
 * run after a run also runs after one that was cut off, within a few seconds: something may have to be switched on again.
 */
export async function runHooks(
  hooks: readonly HookConfig[],
  when: HookMoment,
  facts: HookFacts,
  context: HookContext,
): Promise<void> {
  const isLate = context.signal.aborted && (when === 'after_backup' || when === 'after_restore');
  const signal = isLate ? AbortSignal.timeout(AFTER_ABORT_MS) : context.signal;
  for (const hook of hooks) {
    signal.throwIfAborted();
    try {
      await runHook(hook, when, facts, { ...context, signal });
    } catch (error) {
      signal.throwIfAborted();
      if (hook.onError === 'abort') throw error;
      context.logger.warning('hook.failed', messageOf(error), { hook: when, program: hook.run[0] });
    }
  }
}

async function runHook(hook: HookConfig, when: HookMoment, facts: HookFacts, context: HookContext): Promise<void> {
  const { clock, signal } = context;
  const [program = '', ...args] = hook.run;
  const logger = context.logger.child({ hook: when, program });
  const name = `the hook ${when} (${program})`;
  logger.debug('hook.started', `${name} starts`);
  const startedMs = clock.monotonicMs();
  // A process group of its own, so that all that it starts can be ended with it.
  const child = spawn(program, args, {
    env: { ...hookEnvironment(when, facts), ...passedOn(context.environment) },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const output = new OutputLog(logger, name);
  output.follow(child.stdout);
  output.follow(child.stderr);
  const exited = exitOf(child);
  const over = new AbortController();
  const timeUp = clock.sleep(hook.timeoutMs, AbortSignal.any([signal, over.signal])).then(
    () => 'timeout' as const,
    () => 'aborted' as const,
  );
  try {
    const first = await Promise.race([exited, timeUp]);
    if (first === 'timeout' || first === 'aborted') {
      await killGroup(child, exited, clock);
      signal.throwIfAborted();
      throw hookFailed(name, `took longer than ${formatDuration(hook.timeoutMs)} and was killed`, output.lastLines);
    }
    await output.end(clock);
    if ('startError' in first) {
      throw hookFailed(name, `could not be started: ${messageOf(first.startError)}`, []);
    }
    if (first.signal !== null) throw hookFailed(name, `was killed by ${first.signal}`, output.lastLines);
    if (first.code !== 0) throw hookFailed(name, `exited with ${first.code}`, output.lastLines);
    logger.debug('hook.ended', `${name} is done`, { durationMs: Math.round(clock.monotonicMs() - startedMs) });
  } finally {
    over.abort();
    output.cut();
  }
}

function hookFailed(name: string, how: string, lastLines: readonly string[]): PgarkError {
  const words = lastLines.length === 0 ? '' : `: ${lastLines.join(' ')}`;
  return new PgarkError('hook-failed', `${name} ${how}${words}`);
}

function hookEnvironment(when: HookMoment, facts: HookFacts): Record<string, string> {
  const { source, database, databases, job, storages, runId, result, backupId, storedBytes, target, error } = facts;
  const variables = {
    PGARK_HOOK: when,
    PGARK_SOURCE: source,
    PGARK_DATABASE: database,
    PGARK_DATABASES: databases && oneEachLine(databases),
    PGARK_JOB: job,
    PGARK_STORAGES: storages?.join(','),
    PGARK_RUN_ID: runId,
    PGARK_RESULT: result,
    PGARK_BACKUP_ID: backupId,
    PGARK_STORED_BYTES: storedBytes?.toString(),
    ...targetVariables(target),
    PGARK_ERROR_CODE: error?.code,
    PGARK_ERROR: error?.message,
  };
  return Object.fromEntries(
    Object.entries(variables).flatMap(([name, value]) =>
      // The end of a variable, to the operating system.
      value === undefined ? [] : [[name, value.replaceAll('\0', '')]],
    ),
  );
}

function targetVariables(target: HookFacts['target']): Record<string, string | undefined> {
  if (target === undefined) return {};
  if (target.kind === 'directory') return { PGARK_TARGET: target.kind, PGARK_TARGET_DIRECTORY: target.directory };
  return {
    PGARK_TARGET: target.kind,
    PGARK_TARGET_HOST: target.host,
    PGARK_TARGET_PORT: String(target.port),
    PGARK_TARGET_DATABASE: target.database,
  };
}

/** A name with a line break would read as two others, and is left out. A part of the list would read as all of it. */
function oneEachLine(names: readonly string[]): string | undefined {
  const lines = names.filter((name) => !/[\n\r]/.test(name)).join('\n');
  return lines === '' || Buffer.byteLength(lines) > VARIABLE_BYTES_MAX ? undefined : lines;
}

function passedOn(environment: HookContext['environment']): Record<string, string> {
  return Object.fromEntries(
    PASSED_ON.flatMap((name) => {
      const value = environment[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null } | { readonly startError: Error };

/** Never rejects. The output may go on after it. */
function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once('error', (startError) => {
      if (child.pid === undefined) resolve({ startError });
    });
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
}

/** Ends the hook and all that it started: asked first, by force after a while. */
async function killGroup(child: ChildProcess, exited: Promise<Exit>, clock: Clock): Promise<void> {
  const { pid } = child;
  if (pid === undefined) return;
  signalGroup(pid, 'SIGTERM');
  const over = new AbortController();
  const waited = clock.sleep(KILL_AFTER_MS, over.signal).catch(() => {});
  await Promise.race([exited, waited]);
  over.abort();
  // Also if the hook itself is gone: what it started may not be.
  signalGroup(pid, 'SIGKILL');
  await exited;
}

function signalGroup(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(-pid, name);
  } catch {
    // Nobody is left of the group.
  }
}

/** Passes a hook's output on to the log, line by line, up to a bound. */
class OutputLog {
  readonly #logger: Logger;
  readonly #name: string;
  readonly #streams: Readable[] = [];
  readonly #ended: Promise<void>[] = [];
  readonly #lastLines: string[] = [];
  #lines = 0;

  constructor(logger: Logger, name: string) {
    this.#logger = logger;
    this.#name = name;
  }

  get lastLines(): readonly string[] {
    return this.#lastLines;
  }

  follow(stream: Readable): void {
    this.#streams.push(stream);
    let rest = '';
    stream.setEncoding('utf8');
    stream.on('error', () => {});
    stream.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      // A line without an end must not fill the memory.
      if (rest.length > LINE_CHARACTERS_MAX) {
        lines.push(rest);
        rest = '';
      }
      for (const line of lines) this.#add(line);
    });
    this.#ended.push(
      new Promise((resolve) => {
        stream.once('close', () => {
          this.#add(rest);
          rest = '';
          resolve();
        });
      }),
    );
  }

  /** Waits until all is read, or for a while: what was left in the background may hold the output open. */
  async end(clock: Clock): Promise<void> {
    const over = new AbortController();
    await Promise.race([Promise.all(this.#ended), clock.sleep(DRAIN_MS, over.signal).catch(() => {})]);
    over.abort();
  }

  cut(): void {
    for (const stream of this.#streams) stream.destroy();
  }

  #add(line: string): void {
    const short = line.trimEnd().slice(0, LINE_CHARACTERS_MAX);
    if (short === '') return;
    this.#lastLines.push(short);
    if (this.#lastLines.length > LAST_LINES_MAX) this.#lastLines.shift();
    this.#lines += 1;
    if (this.#lines <= LINES_MAX) this.#logger.info('hook.output', short);
    if (this.#lines === LINES_MAX + 1) {
      this.#logger.warning('hook.output_cut', `${this.#name} says more than ${LINES_MAX} lines; the rest is left out`);
    }
  }
}
