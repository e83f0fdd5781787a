import { execFile } from 'node:child_process';
import { chmod, chown, mkdtemp, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import type { QueryResultRow } from 'pg';
import { Secret } from '../../src/common/secret.ts';
import type { ConnectionParameters } from '../../src/postgres/client/connection-parameters.ts';
import { type Reaper, startReaper } from '../../src/postgres/server/reaper.ts';
import { type Account, findServerAccount, findServerPrograms } from '../../src/postgres/server/server-programs.ts';
import { atFreePort } from './at-free-port.ts';
import { reload } from './reload.ts';
import { sqlAt } from './superuser-session.ts';

const execute = promisify(execFile);
/** More than a server takes to start, to recover or to end on a busy machine. */
const PATIENCE_SECONDS = 240;

/** A server's files as they were. Both ways want it stopped. */
export interface KeptState extends AsyncDisposable {
  putBack(): Promise<void>;
  /** Takes the first back. */
  bringForward(): Promise<void>;
}

export interface ClusterOptions {
  /** Folder of the server's programs. Default: the newest version installed. */
  readonly binDir?: string;
  /** Folder of pg_basebackup, where it is not that of the server. */
  readonly clientDir?: string;
  /** Lines of postgresql.conf. They are read last. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Further arguments of initdb, such as `--wal-segsize=1`. */
  readonly initdb?: readonly string[];
  /**
   * What the server's messages are translated into, such as `de`, where its package has brought translations. Needs no locale of that
   * language: gettext goes by LANGUAGE wherever the locale is not plain C.
   */
  readonly language?: string;
}

/**
 * A PostgreSQL server whose life a test decides over: it is started and stopped by pg_ctl, killed, promoted, and copied as a
 * standby. `await using` ends it and removes its files; they do not outlive this process either.
 */
export class Cluster implements AsyncDisposable {
  readonly binDir: string;
  readonly directory: string;
  #port: number | undefined;
  #clientDir: string;
  #language: string | undefined;
  readonly #account: Account | undefined;
  readonly #reaper: Reaper;

  private constructor(binDir: string, directory: string, account: Account | undefined, reaper: Reaper) {
    this.binDir = binDir;
    this.#clientDir = binDir;
    this.directory = directory;
    this.#account = account;
    this.#reaper = reaper;
  }

  /** Makes a new server and starts it. */
  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = await Cluster.#make(options.binDir ?? (await findServerPrograms()));
    cluster.#clientDir = options.clientDir ?? cluster.binDir;
    cluster.#language = options.language;
    const args = ['-D', cluster.dataDirectory, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '-N'];
    await cluster.run('initdb', [...args, ...(options.initdb ?? [])]);
    await cluster.configure({ wal_level: 'replica', max_wal_senders: '10', ...options.settings });
    await cluster.start();
    // Not from the start on: whether its port was taken is read in its log.
    if (options.language !== undefined) await cluster.set('lc_messages', 'C.UTF-8');
    return cluster;
  }

  /** A standby of this server, which streams from it. */
  async standby(settings: Readonly<Record<string, string>> = {}): Promise<Cluster> {
    const standby = await this.#sibling();
    const source = `host=127.0.0.1 port=${this.port} user=postgres application_name=standby`;
    await standby.#runIn(this.#clientDir, 'pg_basebackup', [
      '-D',
      standby.dataDirectory,
      '-d',
      source,
      '-X',
      'stream',
      '-c',
      'fast',
    ]);
    // What -R writes is for the client's own version.
    await writeFile(path.join(standby.dataDirectory, 'standby.signal'), '', { mode: 0o644 });
    await standby.configure({ primary_conninfo: source, ...settings });
    await standby.start();
    return standby;
  }

  /** A base backup of this server, without any WAL, as the files of a server that is not started. */
  async copy(settings: Readonly<Record<string, string>> = {}): Promise<Cluster> {
    const copy = await this.#sibling();
    const source = `host=127.0.0.1 port=${this.port} user=postgres`;
    await copy.#runIn(this.#clientDir, 'pg_basebackup', [
      '-D',
      copy.dataDirectory,
      '-d',
      source,
      '-X',
      'none',
      '-c',
      'fast',
    ]);
    await copy.configure({ archive_mode: 'off', ...settings });
    return copy;
  }

  async #sibling(): Promise<Cluster> {
    const sibling = await Cluster.#make(this.binDir);
    sibling.#clientDir = this.#clientDir;
    return sibling;
  }

  static async #make(binDir: string): Promise<Cluster> {
    const account = await findServerAccount();
    const directory = await mkdtemp(path.join(await realpath(tmpdir()), 'pgark-cluster-'));
    await chmod(directory, 0o700);
    if (account !== undefined) await chown(directory, account.uid, account.gid);
    const pidFile = path.join(directory, 'data', 'postmaster.pid');
    const reaper = await startReaper({ directory, pidFiles: [pidFile], signal: 'QUIT' });
    return new Cluster(binDir, directory, account, reaper);
  }

  get dataDirectory(): string {
    return path.join(this.directory, 'data');
  }

  /** Of a server that was started. */
  get port(): number {
    if (this.#port === undefined) throw new Error('the server was never started');
    return this.#port;
  }

  get connection(): ConnectionParameters {
    return {
      host: '127.0.0.1',
      port: this.port,
      user: 'postgres',
      password: new Secret('unused'),
      database: 'postgres',
      sslMode: 'disable',
    };
  }

  get url(): string {
    return `postgres://postgres:unused@127.0.0.1:${this.port}/postgres?sslmode=disable`;
  }

  /** Replaces all settings but those given at the start; in effect after a restart. */
  async configure(settings: Readonly<Record<string, string>>): Promise<void> {
    const all = {
      listen_addresses: '127.0.0.1',
      unix_socket_directories: this.directory,
      fsync: 'off',
      logging_collector: 'off',
      // They would do their work when nobody expects it, write pages and write-ahead log.
      autovacuum: 'off',
      ...settings,
    };
    await this.#append(all);
  }

  async #append(settings: Readonly<Record<string, string>>): Promise<void> {
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`);
    const file = path.join(this.dataDirectory, 'postgresql.conf');
    const before = await readFile(file, 'utf8');
    await writeFile(file, `${before}\n${lines.join('')}`);
  }

  /** At the same port each time. */
  async start(): Promise<void> {
    if (this.#port !== undefined) return this.#launch();
    const start = async (port: number): Promise<void> => {
      await this.#append({ port: String(port) });
      await this.#launch();
    };
    this.#port = await atFreePort(start, () => this.log());
  }

  async #launch(): Promise<void> {
    const log = path.join(this.directory, 'server.log');
    await this.run('pg_ctl', ['-D', this.dataDirectory, '-w', '-t', String(PATIENCE_SECONDS), '-l', log, 'start']);
  }

  /** Resolves when it has ended; rejects if it has not after the time. */
  async stop(mode: 'fast' | 'smart' | 'immediate' = 'fast', timeoutSeconds = PATIENCE_SECONDS): Promise<void> {
    await this.run('pg_ctl', ['-D', this.dataDirectory, '-w', '-t', String(timeoutSeconds), '-m', mode, 'stop']);
  }

  /** Without any warning. */
  async kill(): Promise<void> {
    const [pid] = (await readFile(path.join(this.dataDirectory, 'postmaster.pid'), 'utf8')).split('\n');
    process.kill(Number(pid), 'SIGKILL');
  }

  /**
   * The files as they are now, as a snapshot of the server's volume keeps them. The server is stopped and started for that; or it
   * goes on, and has nothing to do meanwhile.
   */
  async keepState({ goesOn = false } = {}): Promise<KeptState> {
    const copy = (from: string, to: string): Promise<string> => this.#runIn('/bin', 'cp', ['-a', from, to]);
    const [kept, newest] = ['kept', 'newest'].map((name) => path.join(this.directory, name)) as [string, string];
    if (!goesOn) await this.stop();
    await copy(this.dataDirectory, kept);
    await rm(path.join(kept, 'postmaster.pid'), { force: true });
    if (!goesOn) await this.start();
    return {
      putBack: async () => {
        await rename(this.dataDirectory, newest);
        await copy(kept, this.dataDirectory);
      },
      bringForward: async () => {
        await rm(this.dataDirectory, { recursive: true });
        await rename(newest, this.dataDirectory);
      },
      [Symbol.asyncDispose]: async () => {
        for (const folder of [kept, newest]) await rm(folder, { recursive: true, force: true });
      },
    };
  }

  /** A standby becomes a server of its own. */
  async promote(): Promise<void> {
    await this.run('pg_ctl', ['-D', this.dataDirectory, '-w', '-t', String(PATIENCE_SECONDS), 'promote']);
  }

  /** Becomes a standby for a moment, and goes on as a primary on its next timeline, where it was. */
  async beginTimeline(): Promise<void> {
    await this.stop();
    await writeFile(path.join(this.dataDirectory, 'standby.signal'), '', { mode: 0o644 });
    await this.start();
    await this.promote();
  }

  async sql<Row extends QueryResultRow = QueryResultRow>(text: string): Promise<Row[]> {
    return sqlAt<Row>(this.port, text);
  }

  /** Of a query of one row and one column. */
  async value(text: string): Promise<string> {
    const [row] = await this.sql(text);
    return String(Object.values(row ?? {})[0]);
  }

  /** Changes a setting, or takes the change back; when this resolves, every process of the server goes by it. */
  async set(name: string, value: string | undefined): Promise<void> {
    const change = value === undefined ? `reset ${name}` : `set ${name} = '${value}'`;
    await this.sql(`alter system ${change}`);
    await reload((sql) => this.sql(sql));
    // Who was told obeys before it works.
    await this.sql('checkpoint');
  }

  /**
   * Resolves when an SQL condition holds, asking the server again and again. The statistics views keep what a transaction saw
   * in them first, so each time is told to forget it.
   */
  async until(condition: string): Promise<void> {
    await this.sql(`do $$ begin while (${condition}) is not true
      loop perform pg_sleep(0.01), pg_stat_clear_snapshot(); end loop; end $$`);
  }

  log(): Promise<string> {
    return readFile(path.join(this.directory, 'server.log'), 'utf8');
  }

  /** A program of the server's version, as the account that owns its files; returns its output. */
  async run(program: string, args: readonly string[]): Promise<string> {
    return this.#runIn(this.binDir, program, args);
  }

  async #runIn(folder: string, program: string, args: readonly string[]): Promise<string> {
    const language = this.#language === undefined ? {} : { LANGUAGE: this.#language };
    const env = { PATH: `${folder}:/usr/bin:/bin`, LC_ALL: 'C', TZ: 'UTC', ...language };
    const options = { cwd: this.directory, env, maxBuffer: 2 ** 28, ...this.#account };
    const { stdout } = await execute(path.join(folder, program), [...args], options);
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('immediate').catch(() => undefined);
    await rm(this.directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
    await this.#reaper.dismiss();
  }
}
