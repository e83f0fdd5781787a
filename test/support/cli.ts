import { spawn } from 'node:child_process';
import path from 'node:path';
import { runCli } from '../../src/cli/program.ts';
import { cliWorld, recordingTerminal } from './cli-world.ts';
import { expectNoSecrets } from './secrets.ts';
import { makeTempDirectory } from './temp.ts';

export const pgarkPath = path.resolve(import.meta.dirname, '../../bin/pgark');

export interface RunOptions {
  /** The whole environment besides PATH, HOME, LANG, TZ and CI; nothing of the tests' own leaks in. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** For `runPgark`, another pgark than that of the checkout. */
  readonly program?: string;
  /** Written to the program's stdin, which is closed after it; without it, stdin is at its end from the start. */
  readonly input?: string | Uint8Array;
  /** When it is aborted the program gets SIGTERM. */
  readonly signal?: AbortSignal;
  /** Gets the running program, to send it signals at a chosen moment. */
  readonly onStarted?: (program: { readonly pid: number; kill(signal: NodeJS.Signals): void }) => void;
  /** Gets stderr as it comes. */
  readonly onStderr?: (text: string) => void;
  /** Whether it matters that bin/pgark itself is started; it costs half a second. */
  readonly ownProcess?: boolean;
}

/** What a process has once for all that runs in it: other values need a process of their own. */
const PROCESS_WIDE = /^(PATH|HOME|LANG|TZ|TMPDIR|PGARK_CLIENT_DIR)$|^(NODE|UV|AWS|OTEL|RCLONE|SSL|LC)_|_PROXY$/i;

export interface RunResult {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a command line of pgark, in an environment and a directory without settings: within this process, as bin/pgark
 * would in its own, or as bin/pgark where that matters. Never rejects for its outcome, but if it showed a secret that it
 * was given.
 */
export async function runPgark(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const result = await (wantsProcess(options)
    ? runProgram(options.program ?? pgarkPath, args, options)
    : runWithin(args, options));
  expectNoSecrets(result.stdout + result.stderr, `the output of pgark ${args.join(' ')}`, options.env);
  return result;
}

function wantsProcess({ ownProcess, program, onStarted, input, env = {} }: RunOptions): boolean {
  return (
    ownProcess === true ||
    program !== undefined ||
    onStarted !== undefined ||
    input !== undefined ||
    Object.keys(env).some((name) => PROCESS_WIDE.test(name))
  );
}

async function runWithin(args: readonly string[], options: RunOptions): Promise<RunResult> {
  await using home = await makeTempDirectory();
  const terminal = recordingTerminal({ tableColumns: Number.POSITIVE_INFINITY });
  const interrupt = new AbortController();
  const end = () => interrupt.abort(new Error('received SIGTERM'));
  if (options.signal?.aborted) end();
  else options.signal?.addEventListener('abort', end, { once: true });
  const world = cliWorld(terminal, { CI: 'true', ...options.env }, options.cwd ?? home.path);
  const err = (text: string) => {
    terminal.err(text);
    options.onStderr?.(text);
  };
  try {
    const exitCode = await runCli(args, { ...world, terminal: { ...terminal, err }, signal: interrupt.signal });
    return { exitCode, signal: null, stdout: terminal.stdout(), stderr: terminal.stderr() };
  } finally {
    options.signal?.removeEventListener('abort', end);
  }
}

/** Runs any program in the same clean environment: psql, gunzip, age. */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  await using home = await makeTempDirectory();
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: home.path,
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    CI: 'true',
    ...options.env,
  };
  const child = spawn(program, args, { env, cwd: options.cwd ?? home.path, stdio: ['pipe', 'pipe', 'pipe'] });
  return await new Promise((resolve, reject) => {
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    const end = () => child.kill('SIGTERM');
    child.once('error', reject);
    child.once('spawn', () => {
      options.onStarted?.({ pid: child.pid ?? 0, kill: (signal) => child.kill(signal) });
      if (options.signal?.aborted) end();
      else options.signal?.addEventListener('abort', end, { once: true });
    });
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => {
      stderr.push(chunk);
      options.onStderr?.(chunk.toString('utf8'));
    });
    // A program that does not read its input to the end is within its rights.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input);
    child.once('close', (exitCode, signal) => {
      options.signal?.removeEventListener('abort', end);
      resolve({
        exitCode,
        signal,
        stdout: Buffer.concat(stdout).toString('utf8'),
        stderr: Buffer.concat(stderr).toString('utf8'),
      });
    });
  });
}
