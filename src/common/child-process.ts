import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { isGivenBack, releaseBlock } from './block-memory.ts';
import { type ByteStream, MIB } from './bytes.ts';
import { assert, messageOf } from './errors.ts';
import { stdoutBlocks } from './stdout-blocks.ts';

/** What is kept and passed on of a line; undefined: nothing. Called with one after the other of one run. */
export type LineFilter = (line: string) => string | undefined;

/** A program to run: an argument array, never a shell; secrets in the environment only. */
export interface ProgramSpec {
  /** `pg_dump`, for messages. */
  readonly name: string;
  readonly path: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Makes for each run what its stderr goes through before anybody sees a line of it. Default: all is seen. */
  readonly stderrFilter?: () => LineFilter;
  /** Each whole line of its stderr as it comes; also kept, bounded, for the failure. */
  readonly onStderrLine?: (line: string) => void;
  /** Each chunk's length as the program's stdout is read, for watchdogs. Nothing is read while the consumer has enough. */
  readonly onStdoutBytes?: ((bytes: number) => void) | undefined;
  /**
   * What ends a program that is being fed; by force if it has not gone 5 s later. Its stdin stays open all the while, so
   * that a program that tidies up on SIGTERM may be given the time. Default: SIGKILL.
   */
  readonly stopSignal?: NodeJS.Signals;
}

/** A program that did not exit with 0, or could not be started. */
export class ProgramFailure extends Error {
  override readonly name = 'ProgramFailure';
  readonly program: string;
  readonly exitCode: number | undefined;
  readonly signalName: string | undefined;
  /** Its last lines on stderr. */
  readonly stderrLines: readonly string[];

  constructor(
    program: string,
    how: string,
    stderrLines: readonly string[],
    exit: { code?: number; signal?: string } = {},
    cause?: unknown,
  ) {
    super(`${program} ${how}${stderrLines.length > 0 ? `: ${stderrLines.join(' ')}` : ''}`, { cause });
    this.program = program;
    this.exitCode = exit.code;
    this.signalName = exit.signal;
    this.stderrLines = stderrLines;
  }
}

const STDERR_LINES_MAX = 20;
const STDERR_LINE_CHARACTERS_MAX = 2_000;
const KILL_AFTER_MS = 5_000;

/** Keeps the last lines that a program wrote on stderr, each from its beginning. */
class StderrTail {
  readonly lines: string[] = [];
  #rest = '';
  readonly #filter: LineFilter;
  readonly #onLine: ((line: string) => void) | undefined;

  constructor(child: ChildProcess, { stderrFilter, onStderrLine }: ProgramSpec) {
    this.#filter = stderrFilter?.() ?? ((line) => line);
    this.#onLine = onStderrLine;
    child.stderr?.setEncoding('utf8');
    child.stderr?.on('data', (text: string) => {
      this.#rest += text;
      const lines = this.#rest.split('\n');
      this.#rest = (lines.pop() ?? '').slice(0, STDERR_LINE_CHARACTERS_MAX);
      for (const line of lines) this.#add(line);
    });
    child.stderr?.on('end', () => {
      if (this.#rest !== '') this.#add(this.#rest);
      this.#rest = '';
    });
  }

  #add(line: string): void {
    const short = line.trimEnd().slice(0, STDERR_LINE_CHARACTERS_MAX);
    const kept = short === '' ? undefined : this.#filter(short);
    if (kept === undefined) return;
    this.lines.push(kept);
    if (this.lines.length > STDERR_LINES_MAX) this.lines.shift();
    this.#onLine?.(kept);
  }
}

/** A started program: its process, its stderr, and how it ended. */
class Running {
  readonly child: ChildProcess;
  readonly stderr: StderrTail;
  /** Resolves when the process and its pipes have ended; never rejects. */
  readonly closed: Promise<{ code: number | null; signal: string | null; startError?: Error }>;
  readonly #spec: ProgramSpec;

  constructor(spec: ProgramSpec, stdin: 'ignore' | 'pipe') {
    this.#spec = spec;
    this.child = spawn(spec.path, [...spec.args], { env: { ...spec.env }, stdio: [stdin, 'pipe', 'pipe'] });
    this.stderr = new StderrTail(this.child, spec);
    this.closed = new Promise((resolve) => {
      let startError: Error | undefined;
      this.child.once('error', (error) => {
        startError = error;
        if (this.child.pid === undefined) resolve({ code: null, signal: null, startError: error });
      });
      this.child.once('close', (code, signal) => resolve({ code, signal, ...(startError ? { startError } : {}) }));
    });
  }

  /** The exit gate: returns only if the program exited with 0. */
  async gate(): Promise<void> {
    const { code, signal, startError } = await this.closed;
    const { name } = this.#spec;
    if (startError && code === null && signal === null) {
      throw new ProgramFailure(name, `could not be started (${messageOf(startError)})`, [], {}, startError);
    }
    if (signal !== null) throw new ProgramFailure(name, `was killed by ${signal}`, this.stderr.lines, { signal });
    if (code !== 0) throw new ProgramFailure(name, `exited with ${code}`, this.stderr.lines, { code: code ?? -1 });
  }

  /** Ends the process, by force if it does not go, and waits until it is gone. */
  async stop(first: NodeJS.Signals): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(first);
    const force = setTimeout(() => this.child.kill('SIGKILL'), KILL_AFTER_MS);
    this.child.stdout?.resume();
    await this.closed;
    clearTimeout(force);
  }
}

/**
 * Runs a program and passes on its stdout. The exit gate is built in: the stream ends normally only after the process
 * exited with 0; otherwise it throws `ProgramFailure`, whatever came before. Left early or aborted, the process is ended
 * and waited for.
 */
export async function* programOutput(spec: ProgramSpec, signal?: AbortSignal): ByteStream {
  signal?.throwIfAborted();
  const running = new Running(spec, 'ignore');
  const abort = (): void => {
    void running.stop('SIGTERM');
  };
  signal?.addEventListener('abort', abort, { once: true });
  let ended = false;
  try {
    if (running.child.stdout) yield* stdoutBlocks(running.child.stdout, spec.onStdoutBytes);
    signal?.throwIfAborted();
    await running.gate();
    ended = true;
  } catch (error) {
    signal?.throwIfAborted();
    // A broken pipe says less than the exit status behind it.
    if (!(error instanceof ProgramFailure)) await running.gate();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
    if (!ended) await running.stop('SIGTERM');
  }
}

/**
 * Runs a program and feeds it a stream on stdin; resolves when it exited with 0 after having read all. If the stream
 * throws, the program is killed *before* its stdin ends, so that it can never take a broken stream for a whole one, and
 * the stream's error is rethrown. If the program ends first, the stream is left and `ProgramFailure` thrown.
 */
export async function feedProgram(spec: ProgramSpec, body: ByteStream, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  const running = new Running(spec, 'pipe');
  running.child.stdout?.resume();
  await feed(running, spec, body, signal);
}

/**
 * Runs a program between two streams: feeds it one on stdin, as `feedProgram` does, and passes on its stdout. The stream
 * ends normally only after the program has read all and exited with 0; an error of `body` comes in place of the end. Left
 * early, the program is ended and waited for.
 */
export async function* throughProgram(spec: ProgramSpec, body: ByteStream, signal?: AbortSignal): ByteStream {
  signal?.throwIfAborted();
  const running = new Running(spec, 'pipe');
  const left = new AbortController();
  const either = signal === undefined ? left.signal : AbortSignal.any([signal, left.signal]);
  const fed = feed(running, spec, body, either).then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  let reachedEnd = false;
  try {
    if (running.child.stdout) yield* stdoutBlocks(running.child.stdout);
    reachedEnd = true;
    const failure = await fed;
    if (failure !== undefined) throw failure.error;
  } finally {
    if (!reachedEnd) {
      left.abort();
      await fed;
    }
  }
}

async function feed(
  running: Running,
  spec: ProgramSpec,
  body: ByteStream,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { stdin } = running.child;
  if (!stdin) throw new ProgramFailure(spec.name, 'has no stdin', []);
  let gone = false;
  const finished = running.closed.then(() => {
    gone = true;
  });
  // EPIPE: the program ended, or closed its stdin, before it had read everything. Its exit status tells why.
  let refused = false;
  stdin.on('error', () => {
    refused = true;
  });
  const stopSignal = spec.stopSignal ?? 'SIGKILL';
  const abort = (): void => {
    void running.stop(stopSignal);
  };
  signal?.addEventListener('abort', abort, { once: true });
  // What is still on its way when the program has ended was not read, and nobody tells so if others keep its pipe open.
  let unwritten = 0;
  try {
    let complete = true;
    for await (const block of body) {
      signal?.throwIfAborted();
      if (gone || refused) {
        complete = false;
        break;
      }
      // Memory that was given back too early is written as nothing, without an error.
      assert(!isGivenBack(block), `a block for ${spec.name} was given back before it was written`);
      const { length } = block;
      unwritten += 1;
      const written = stdin.write(block, (error) => {
        if (error || block.length !== length) {
          refused = true;
          return;
        }
        unwritten -= 1;
        releaseBlock(block);
      });
      if (!written) await Promise.race([once(stdin, 'drain').catch(() => {}), finished]);
    }
    signal?.throwIfAborted();
    stdin.end();
    await running.gate();
    if (!complete || refused || unwritten > 0)
      throw new ProgramFailure(spec.name, 'exited before it had read everything', running.stderr.lines);
  } catch (error) {
    if (!gone) await running.stop(stopSignal);
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

/** Runs a short program to its end and returns what it wrote on stdout, at most 1 MiB of it. */
export async function programText(spec: ProgramSpec, signal?: AbortSignal): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of programOutput(spec, signal)) {
    bytes += chunk.length;
    if (bytes <= MIB) chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
