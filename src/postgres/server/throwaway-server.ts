import { type ChildProcess, execFile, type SpawnOptions, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, chown, mkdtemp, open, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { messageOf, PgarkError } from '../../common/errors.ts';
import { Secret } from '../../common/secret.ts';
import { freePort } from './free-port.ts';
import { type Reaper, startReaper } from './reaper.ts';
import { type Account, findServerAccount, findServerPrograms } from './server-programs.ts';

const START_TIMEOUT_MS = 60_000;
const READY_INTERVAL_MS = 20;
/** For each way to end a server, before the next and harder one. */
const STOP_TIMEOUT_MS = 10_000;
const PORT_ATTEMPTS_MAX = 5;
const LOG_TAIL_CHARS = 2_000;
/** sockaddr_un holds 108 bytes; `.s.PGSQL.NNNNN`, the slash and the end take 16 of them. */
const SOCKET_DIRECTORY_BYTES_MAX = 92;
const SUPERUSER = 'postgres';

export interface ThrowawayServerOptions {
  /** Folder of initdb and postgres; by default that of the newest version installed. */
  readonly binDir?: string;
  /** Where the server's own directory is made; by default the system's folder for temporary files. */
  readonly directory?: string;
  /**
   * A private folder of the server's account to use instead of making one. Whoever gives it removes it, and sees to it that neither
   * it nor the server outlives this process.
   */
  readonly folder?: string;
  /** `tcp` listens on 127.0.0.1 at a free port, `socket` only in its private directory (the default). */
  readonly listen?: 'socket' | 'tcp';
  /** Of names that databases share, such as those of roles: a database of another encoding finds none beyond ASCII. Default: UTF8. */
  readonly encoding?: string;
  /** Further lines of postgresql.conf, such as `{ max_connections: '200' }`. They win over the server's own. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Ends a start that is under way; a server that has been started is ended by `stop`. */
  readonly signal?: AbortSignal;
}

/** A private PostgreSQL server. `await using` stops it. */
export interface ThrowawayServer extends AsyncDisposable {
  /** 127.0.0.1, or the directory of the socket. */
  readonly host: string;
  readonly port: number;
  /** A superuser. */
  readonly user: string;
  readonly password: Secret;
  /** The database that every server has. */
  readonly database: string;
  readonly binDir: string;
  /** `postgresql://…` with the password in it, for the given database or `database`. */
  url(database?: string): Secret;
  /** The end of the server's log, for errors. Default: so much as a person reads. */
  logTail(charsMax?: number): Promise<string>;
  /** Ends every connection and the server, and removes all it has written. Idempotent, and never rejects half-way. */
  stop(): Promise<void>;
}

/**
 * Starts a private PostgreSQL server on an empty directory of its own (mode 0700), with one superuser that has a random
 * password. Nothing that it writes is meant to last: it does not sync to disk. It runs as `postgres` where we are root.
 * Neither server nor directory outlives this process, however that ends.
 *
 * Rejects with `client-missing` where no server is installed, else with `postgres-failed` and the server's own words.
 */
export async function startThrowawayServer(options: ThrowawayServerOptions = {}): Promise<ThrowawayServer> {
  options.signal?.throwIfAborted();
  const binDir = options.binDir ?? (await findServerPrograms());
  const account = await findServerAccount();
  const directory = options.folder ?? (await makeDirectory(options.directory ?? tmpdir(), account));
  const server = new PrivateServer(binDir, directory, account, options.folder === undefined);
  try {
    await server.start(options);
    return server;
  } catch (error) {
    await server.stop();
    options.signal?.throwIfAborted();
    throw error;
  }
}

async function makeDirectory(parent: string, account: Account | undefined): Promise<string> {
  const directory = await mkdtemp(path.join(await realpath(parent), 'pgark-server-'));
  if (Buffer.byteLength(directory) > SOCKET_DIRECTORY_BYTES_MAX) {
    await rm(directory, { recursive: true });
    throw new PgarkError('postgres-failed', `the path ${directory} is too long for the socket of a PostgreSQL server`, {
      hint: 'set TMPDIR to a shorter one',
    });
  }
  await chmod(directory, 0o700);
  if (account !== undefined) await chown(directory, account.uid, account.gid);
  return directory;
}

class PrivateServer implements ThrowawayServer {
  readonly user = SUPERUSER;
  readonly database = 'postgres';
  readonly password = new Secret(randomBytes(24).toString('base64url'));
  readonly binDir: string;
  host: string;
  port = 5432;
  readonly #directory: string;
  readonly #account: Account | undefined;
  readonly #ownsDirectory: boolean;
  #reaper: Reaper | undefined;
  #postmaster: Postmaster | undefined;
  #stopped: Promise<void> | undefined;

  constructor(binDir: string, directory: string, account: Account | undefined, ownsDirectory: boolean) {
    this.binDir = binDir;
    this.host = directory;
    this.#directory = directory;
    this.#account = account;
    this.#ownsDirectory = ownsDirectory;
  }

  async start(options: ThrowawayServerOptions): Promise<void> {
    // Started before the server, so that there is no moment at which only the server is there.
    if (this.#ownsDirectory) {
      this.#reaper = await startReaper({ directory: this.#directory, pidFiles: [this.#pidFile], signal: 'QUIT' });
    }
    await this.#initialize(options);
    for (let attempt = 1; ; attempt += 1) {
      if (options.listen === 'tcp') {
        this.host = '127.0.0.1';
        this.port = await freePort();
      }
      await this.#configure(options);
      await rm(this.#logFile, { force: true });
      const postmaster = await this.#spawn();
      this.#postmaster = postmaster;
      if (await this.#becomesReady(postmaster, options.signal)) return;
      const log = await this.logTail();
      // Somebody else took the port between our asking for it and the server's.
      if (attempt < PORT_ATTEMPTS_MAX && /could not bind|could not create any TCP\/IP sockets/.test(log)) continue;
      const why = log || (await postmaster.ended);
      throw new PgarkError('postgres-failed', `the private PostgreSQL server did not start: ${why}`, {
        hint: `it was started with the programs in ${this.binDir}`,
      });
    }
  }

  url(database = this.database): Secret {
    const login = `${this.user}:${encodeURIComponent(this.password.reveal())}`;
    const name = encodeURIComponent(database);
    return new Secret(
      this.host.startsWith('/')
        ? `postgresql://${login}@/${name}?host=${encodeURIComponent(this.host)}&port=${this.port}`
        : `postgresql://${login}@${this.host}:${this.port}/${name}`,
    );
  }

  async logTail(charsMax = LOG_TAIL_CHARS): Promise<string> {
    const log = await readFile(this.#logFile, 'utf8').catch(() => '');
    return log.slice(-charsMax).trim();
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stopOnce();
    return this.#stopped;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stopOnce(): Promise<void> {
    await this.#postmaster?.end();
    // A server's children may still be writing their last files when it was killed.
    const written = this.#ownsDirectory ? this.#directory : this.#dataDirectory;
    await rm(written, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    await this.#reaper?.dismiss();
  }

  get #dataDirectory(): string {
    return path.join(this.#directory, 'data');
  }

  /** Written by the server, removed at its end. */
  get #pidFile(): string {
    return path.join(this.#dataDirectory, 'postmaster.pid');
  }

  get #logFile(): string {
    return path.join(this.#directory, 'server.log');
  }

  async #initialize({ encoding = 'UTF8', signal }: ThrowawayServerOptions): Promise<void> {
    const passwordFile = path.join(this.#directory, 'password');
    await this.#write(passwordFile, `${this.password.reveal()}\n`);
    const args = [
      `--pgdata=${this.#dataDirectory}`,
      `--username=${this.user}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      `--encoding=${encoding}`,
      '--no-locale',
      '--no-sync',
    ];
    try {
      await execute(path.join(this.binDir, 'initdb'), args, { ...this.#spawnOptions(), ...(signal && { signal }) });
    } catch (error) {
      signal?.throwIfAborted();
      const words = hasStderr(error) ? error.stderr.trim().slice(-LOG_TAIL_CHARS) : messageOf(error);
      throw new PgarkError('postgres-failed', `initdb could not make a private PostgreSQL server: ${words}`, {
        cause: error,
        hint: `it was run from ${this.binDir} on the directory ${this.#directory}`,
      });
    } finally {
      await rm(passwordFile, { force: true });
    }
  }

  /** postgresql.auto.conf is read last, so that whatever the distribution puts into postgresql.conf does not count. */
  async #configure(options: ThrowawayServerOptions): Promise<void> {
    const settings = {
      listen_addresses: options.listen === 'tcp' ? '127.0.0.1' : '',
      port: String(this.port),
      unix_socket_directories: this.#directory,
      fsync: 'off',
      synchronous_commit: 'off',
      full_page_writes: 'off',
      logging_collector: 'off',
      log_destination: 'stderr',
      timezone: 'UTC',
      ...options.settings,
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`);
    await this.#write(path.join(this.#dataDirectory, 'postgresql.auto.conf'), lines.join(''));
  }

  /**
   * The server is our own child, so that its end is noticed, and waited for also where no init process does that. Its log
   * is a file: a pipe that we are too busy to read would hold it up.
   */
  async #spawn(): Promise<Postmaster> {
    const log = await open(this.#logFile, 'a', 0o600);
    try {
      const program = path.join(this.binDir, 'postgres');
      return await Postmaster.spawn(program, ['-D', this.#dataDirectory], {
        ...this.#spawnOptions(),
        stdio: ['ignore', log.fd, log.fd],
        // A session of its own: Ctrl-C in a terminal is for us, who then end the server in good order.
        detached: true,
      });
    } finally {
      await log.close();
    }
  }

  /** False if the server ended instead. */
  async #becomesReady(postmaster: Postmaster, signal: AbortSignal | undefined): Promise<boolean> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (postmaster.isRunning) {
      signal?.throwIfAborted();
      // The eighth line tells the state, for pg_ctl (PostgreSQL's pidfile.h: LOCK_FILE_LINE_PM_STATUS, PM_STATUS_READY).
      const lines = (await readFile(this.#pidFile, 'utf8').catch(() => '')).split('\n');
      if (lines[0] === String(postmaster.pid) && lines[7]?.trim() === 'ready') return true;
      if (performance.now() > deadline) {
        const log = await this.logTail();
        throw new PgarkError('postgres-failed', `the private PostgreSQL server is not ready after a minute: ${log}`);
      }
      await Promise.race([delay(READY_INTERVAL_MS), postmaster.ended]);
    }
    return false;
  }

  async #write(file: string, content: string): Promise<void> {
    await writeFile(file, content, { mode: 0o600 });
    if (this.#account !== undefined) await chown(file, this.#account.uid, this.#account.gid);
  }

  /** The environment holds the least, so that no PG… variable of ours counts. */
  #spawnOptions(): { cwd: string; env: NodeJS.ProcessEnv; uid?: number; gid?: number } {
    const env = { PATH: `${this.binDir}:/usr/bin:/bin`, LC_ALL: 'C', TZ: 'UTC', HOME: this.#directory };
    return { cwd: this.#directory, env, ...this.#account };
  }
}

/** The server's first process, which ends all others of the server with it. */
class Postmaster {
  readonly pid: number;
  /** Resolves with how it ended, in words. */
  readonly ended: Promise<string>;
  isRunning = true;
  readonly #child: ChildProcess;

  static async spawn(program: string, args: readonly string[], options: SpawnOptions): Promise<Postmaster> {
    const child = spawn(program, args, options);
    try {
      await once(child, 'spawn');
    } catch (error) {
      throw new PgarkError('postgres-failed', `${program} could not be started: ${messageOf(error)}`, { cause: error });
    }
    return new Postmaster(child);
  }

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.isRunning = false;
        resolve(signal === null ? `it ended with exit status ${code}` : `it was ended by ${signal}`);
      });
    });
    child.unref();
  }

  /** Fast shutdown, then immediate shutdown, then by force. */
  async end(): Promise<void> {
    this.#child.ref();
    for (const signal of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
      if (!this.isRunning) return;
      this.#child.kill(signal);
      const timeout = new AbortController();
      const patience = delay(STOP_TIMEOUT_MS, undefined, { signal: timeout.signal }).catch(() => {});
      await Promise.race([this.ended, patience]);
      timeout.abort();
    }
  }
}

const execute = promisify(execFile);

function hasStderr(error: unknown): error is { readonly stderr: string } {
  return error instanceof Error && 'stderr' in error && typeof error.stderr === 'string' && error.stderr.trim() !== '';
}
