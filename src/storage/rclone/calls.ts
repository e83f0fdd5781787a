import type { ByteStream } from '../../common/bytes.ts';
import { feedProgram, programOutput, type ProgramSpec, programText } from '../../common/child-process.ts';
import { PgarkError } from '../../common/errors.ts';
import type { CallOptions, ObjectKey } from '../object-store.ts';
import { defaultRetryPolicy, type RetryPolicy, withRetries } from '../../common/retry.ts';
import { type Entry, parseEntries, parseEntry } from './entries.ts';
import { type Environment, findRclone, rcloneEnvironment, secretsOf } from './environment.ts';
import { isTransient, rcloneError, rcloneMissing, type RunDescription } from './failures.ts';
import type { RemoteHash } from './features.ts';
import type { RcloneStoreOptions } from './options.ts';
import { argumentOf, parseRemote, type Remote } from './remote.ts';
import { Slots } from './slots.ts';

/** Short runs at a time; each takes some 40 MiB. Streams come on top, one for each put or get that is open. */
const SHORT_RUNS_MAX = 4;
/**
 * Up to here a write is one request with a known length and hash. One more than a small object's, so that each of them is.
 */
const ATOMIC_BYTES = 8 * 1024 * 1024 + 1;

export interface StatOptions extends CallOptions {
  /** Ask for this hash too. */
  readonly hash?: RemoteHash | undefined;
}

/** The runs of rclone that the store is made of, each with its errors and retries. Paths are relative to the root. */
export class RcloneCalls {
  readonly remote: Remote;
  readonly settings: Pick<RcloneStoreOptions, 'clock' | 'random' | 'logger'>;
  readonly retry: RetryPolicy;
  readonly env: Environment;
  readonly #childEnv: Record<string, string>;
  readonly #configArgs: readonly string[];
  readonly #secrets: readonly string[];
  readonly #slots = new Slots(SHORT_RUNS_MAX);
  #program: string | undefined;

  constructor({ remote, configFile, env, retry, clock, random, logger }: RcloneStoreOptions) {
    this.remote = parseRemote(remote);
    this.settings = { clock, random, logger };
    this.retry = { ...defaultRetryPolicy, ...retry };
    this.env = env;
    this.#childEnv = rcloneEnvironment(env);
    this.#configArgs = configFile === undefined ? [] : [`--config=${configFile}`];
    this.#secrets = secretsOf(env);
  }

  /** The location for people. */
  get location(): string {
    return `rclone:${this.remote.root}`;
  }

  describe(verb: string, key: ObjectKey): RunDescription {
    return {
      doing: `${verb} the object ${JSON.stringify(key)} on ${this.location}`,
      subject: key.slice(key.lastIndexOf('/') + 1),
    };
  }

  /** What `rclone backend features` says. */
  features(options: CallOptions = {}): Promise<string> {
    const run = { doing: `find out what ${this.location} can do`, subject: '' };
    return this.#short(run, ['backend', 'features', argumentOf(this.remote, '')], options.signal);
  }

  /** One file or folder. Rejects with `object-not-found`; object storages call what is not there a folder. */
  async stat(path: string, run: RunDescription, { signal, hash }: StatOptions = {}): Promise<Entry> {
    const args = [
      'lsjson',
      '--stat',
      '--use-server-modtime',
      '--no-mimetype',
      ...hashArgs(hash),
      argumentOf(this.remote, path),
    ];
    const text = await this.#short(run, args, signal);
    if (text.trim() === 'null') throw new PgarkError('object-not-found', `cannot ${run.doing}: it is not there`);
    return parseEntry(text);
  }

  /** All files below a folder, in no order. */
  list(
    folder: string,
    run: RunDescription,
    filter: readonly string[],
    { signal, hash }: StatOptions = {},
  ): Promise<Entry[]> {
    const args = [
      'lsjson',
      '--recursive',
      '--files-only',
      '--use-server-modtime',
      '--no-mimetype',
      ...hashArgs(hash),
      ...filter,
    ];
    return this.#repeated(
      run,
      async () => {
        const entries: Entry[] = [];
        const output = programOutput(this.#spec([...args, argumentOf(this.remote, folder)], shortRun), signal);
        for await (const entry of parseEntries(output)) entries.push(entry);
        return entries;
      },
      signal,
    );
  }

  async deleteFile(path: string, run: RunDescription, { signal }: CallOptions = {}): Promise<void> {
    await this.#short(run, ['deletefile', argumentOf(this.remote, path)], signal);
  }

  /** The contents of all files in a folder whose names match the pattern, one after another; at the most 1 MiB of them. */
  readFolder(folder: string, pattern: string, run: RunDescription, { signal }: CallOptions = {}): Promise<string> {
    return this.#short(run, ['cat', `--include=${pattern}`, argumentOf(this.remote, folder)], signal);
  }

  async makeFolder(run: RunDescription, { signal }: CallOptions = {}): Promise<void> {
    await this.#short(run, ['mkdir', argumentOf(this.remote, '')], signal);
  }

  /** One attempt: the caller looks what became of it. Without `--ignore-times`, equal sizes and times count as equal contents. */
  async moveOnce(from: string, to: string, run: RunDescription, { signal }: CallOptions = {}): Promise<void> {
    const args = ['moveto', '--ignore-times', argumentOf(this.remote, from), argumentOf(this.remote, to)];
    await this.#attempt(run, () => programText(this.#spec(args, shortRun), signal), signal);
  }

  /** Makes an empty object with that modification time, if there is none. */
  async touch(path: string, time: string, run: RunDescription, { signal }: CallOptions = {}): Promise<void> {
    await this.#short(run, ['touch', `--timestamp=${time}`, argumentOf(this.remote, path)], signal);
  }

  /** Writes bytes that are at hand. */
  writeSmall(path: string, bytes: Uint8Array, run: RunDescription, { signal }: CallOptions = {}): Promise<void> {
    const body = async function* (): ByteStream {
      yield bytes;
    };
    return this.#repeated(run, () => feedProgram(this.#writeSpec(path, shortRun), body(), signal), signal);
  }

  /** Writes a stream, once. If it throws, rclone is ended before its stdin ends: it would store what it has. */
  async write(path: string, body: ByteStream, env: Environment, signal: AbortSignal | undefined): Promise<void> {
    await feedProgram(this.#writeSpec(path, env), body, signal);
  }

  /** Bytes of an object, `count` from `offset` on, by one run and without retries. Raw failures: `error` turns them. */
  read(
    path: string,
    span: { readonly offset: number; readonly count: number },
    signal: AbortSignal | undefined,
  ): ByteStream {
    const args = ['cat', `--offset=${span.offset}`, `--count=${span.count}`, argumentOf(this.remote, path)];
    return programOutput(this.#spec(args, {}), signal);
  }

  /** The failure of a run as an error of pgark's. */
  error(error: unknown, run: RunDescription): unknown {
    return rcloneError(error, run, this.#secrets);
  }

  #writeSpec(path: string, env: Environment): ProgramSpec {
    const args = ['rcat', `--streaming-upload-cutoff=${ATOMIC_BYTES}B`, argumentOf(this.remote, path)];
    // Given the time, rclone takes back what it has uploaded.
    return { ...this.#spec(args, env), stopSignal: 'SIGTERM' };
  }

  #spec(args: readonly string[], env: Environment): ProgramSpec {
    this.#program ??= findRclone(this.#childEnv);
    if (this.#program === undefined) throw rcloneMissing();
    const defined = Object.entries({ ...env, ...this.#childEnv }).filter(
      (pair): pair is [string, string] => pair[1] !== undefined,
    );
    return {
      name: 'rclone',
      path: this.#program,
      args: [...args, ...this.#configArgs],
      env: Object.fromEntries(defined),
    };
  }

  #short(run: RunDescription, args: readonly string[], signal: AbortSignal | undefined): Promise<string> {
    return this.#repeated(run, () => programText(this.#spec(args, shortRun), signal), signal);
  }

  #repeated<T>(run: RunDescription, operation: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const { clock, random, logger } = this.settings;
    return this.#attempt(
      run,
      () =>
        withRetries(() => this.#slots.run(operation, signal), {
          policy: this.retry,
          clock,
          random,
          signal,
          isRetryable: (error) => isTransient(error, run),
          onRetry: (error, attempt, delayMs) => {
            const { message } = asError(this.error(error, run));
            logger.warning('store.retry', `${message}; trying again`, { attempt, delay_ms: delayMs });
          },
        }),
      signal,
    );
  }

  async #attempt<T>(run: RunDescription, operation: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    try {
      return await operation();
    } catch (error) {
      signal?.throwIfAborted();
      throw this.error(error, run);
    }
  }
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));
/** The store's own policy repeats short runs; ten tries of rclone's at each request would take minutes. */
const shortRun: Environment = { RCLONE_LOW_LEVEL_RETRIES: '2' };

function hashArgs(hash: RemoteHash | undefined): readonly string[] {
  return hash === undefined ? [] : ['--hash', `--hash-type=${hash}`];
}
