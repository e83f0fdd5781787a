import { execFile } from 'node:child_process';
import { chown, open, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Clock } from '../../common/clock.ts';
import { messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';
import { type Lsn, parseLsn } from '../wal/lsn.ts';
import { LogTail } from './log-tail.ts';
import { PAUSED, readRecoveryLog } from './recovery-log.ts';
import type { Account } from './server-programs.ts';

const execute = promisify(execFile);

const LOOK_MS = 100;
/** pg_ctl is not the one who decides that a recovery takes too long. */
const PG_CTL_SECONDS_MAX = 2_000_000;
const LOG_NAME = 'pgark-recovery.log';
/** It waits for somebody who lets it go on: nobody will. */
const PAUSE = new Error('the recovery has paused');
const HBA_NAME = 'pg_hba.conf';
/** DBState of pg_control (src/include/catalog/pg_control.h): behind the system identifier and two versions. */
const STATE_OFFSET = 16;
const IN_PRODUCTION = 6;

export interface RecoveringServer {
  readonly dataDirectory: string;
  /** Folder of pg_ctl, of the data directory's major version. */
  readonly binDir: string;
  /** Who runs it, where that is not who we are. */
  readonly account: Account | undefined;
  /** Default: what its configuration says. */
  readonly port: number | undefined;
  /**
   * A folder of the account's own, without quotes in its path, in which the server has its socket, and lets in who may enter it;
   * nobody else can connect. Default: as its configuration says.
   */
  readonly privateIn?: string | undefined;
  /** Further settings, which win over those of its files. Default: none. */
  readonly settings?: Readonly<Record<string, string>> | undefined;
}

/** How a recovery ended. */
export interface FinishedRecovery {
  readonly logFile: string;
  /** The last record that was replayed, or the one before which it stopped, as the server says. */
  readonly redoneAt: Lsn | undefined;
  /** When the last transaction that is there was committed: RFC 3339, with microseconds. */
  readonly lastTransaction: string | undefined;
  readonly port: number | undefined;
}

/**
 * Starts a server on a data directory that is to be recovered, and waits until it is a primary, however long that takes. It
 * goes on when this process ends; its log is a file in the data directory. Errors: `recovery-failed` with the server's own
 * words, after which it does not run, and in `details` as `fetchError` the code of the error for which it got no WAL; the signal's reason, and then it is stopped.
 */
export async function recoverServer(
  server: RecoveringServer,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<FinishedRecovery> {
  const { dataDirectory } = server;
  const logFile = path.join(dataDirectory, LOG_NAME);
  if (server.privateIn !== undefined) {
    await putFile(path.join(server.privateIn, HBA_NAME), 'local all all trust\n', server);
    // Debian's servers have theirs elsewhere; one does not start without.
    const configuration = path.join(dataDirectory, 'postgresql.conf');
    if (!(await exists(configuration))) await putFile(configuration, '', server);
  }
  const log = await LogTail.behind(logFile);
  try {
    await pgCtl(
      server,
      ['-w', '-t', String(PG_CTL_SECONDS_MAX), '-l', logFile, '-o', optionsOf(server), 'start'],
      signal,
    );
    while (!(await isPrimary(dataDirectory))) {
      signal.throwIfAborted();
      if (!(await exists(path.join(dataDirectory, 'postmaster.pid')))) throw new Error('the server ended');
      if (await log.shows(PAUSED)) throw PAUSE;
      await clock.sleep(LOOK_MS, signal);
    }
  } catch (error) {
    if (signal.aborted || error === PAUSE) {
      // Without a signal of its own: the server is not to be left behind.
      await pgCtl(server, ['-w', '-m', 'immediate', 'stop']).catch(() => undefined);
    }
    signal.throwIfAborted();
    throw await failureOf(logFile, error);
  }
  const said = readRecoveryLog(await readFile(logFile, 'utf8'));
  const [, , , port] = (await readFile(path.join(dataDirectory, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
  return {
    logFile,
    redoneAt: said.redoneAt === undefined ? undefined : parseLsn(said.redoneAt),
    lastTransaction: said.lastTransaction,
    port: port === undefined || port === '' ? undefined : Number(port),
  };
}

async function putFile(file: string, content: string, { account }: RecoveringServer): Promise<void> {
  await writeFile(file, content, { mode: 0o600 });
  if (account !== undefined) await chown(file, account.uid, account.gid);
}

/** Of the server, as `pg_ctl -o` takes them. Its messages are read: they are to be there, in English, and here. */
export function optionsOf({ dataDirectory, port, privateIn, settings: further = {} }: RecoveringServer): string {
  const settings = ['logging_collector=off', 'log_destination=stderr', 'log_min_messages=warning', 'lc_messages=C'];
  // What its files say wins over -D, and there it is the old server's.
  settings.push(`data_directory=${dataDirectory}`);
  if (port !== undefined) settings.push(`port=${port}`);
  if (privateIn !== undefined) {
    settings.push('listen_addresses=', `unix_socket_directories=${privateIn}`, 'unix_socket_permissions=0700');
    settings.push(`hba_file=${path.join(privateIn, HBA_NAME)}`, 'ssl=off', 'external_pid_file=');
    // It lives for one dump, and lasts no longer.
    settings.push('fsync=off', 'full_page_writes=off', 'autovacuum=off');
    // Nor is it the old server: subscriptions and extensions' workers would take from slots at a publisher what that one still
    // needs, and carry out its jobs. The first are named so that the server does not complain of them.
    settings.push('max_logical_replication_workers=0', 'max_worker_processes=0');
  }
  settings.push(...Object.entries(further).map(([name, value]) => `${name}=${value}`));
  // pg_ctl passes them on to a shell.
  return settings.map((setting) => `-c '${setting.replaceAll("'", String.raw`'\''`)}'`).join(' ');
}

/** Ends a server at once, without any care for its files. */
export async function stopRecovered(server: Omit<RecoveringServer, 'port'>): Promise<void> {
  await pgCtl({ ...server, port: undefined }, ['-w', '-m', 'immediate', 'stop']);
}

async function pgCtl(
  { binDir, dataDirectory, account }: RecoveringServer,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  // The least, so that no PG… variable of ours counts.
  const env = { PATH: `${binDir}:/usr/local/bin:/usr/bin:/bin`, LC_ALL: 'C', TZ: 'UTC' };
  const options = { cwd: dataDirectory, env, ...account, ...(signal && { signal }) };
  await execute(path.join(binDir, 'pg_ctl'), ['-D', dataDirectory, ...args], options);
}

async function isPrimary(dataDirectory: string): Promise<boolean> {
  if (await exists(path.join(dataDirectory, 'recovery.signal'))) return false;
  const control = await open(path.join(dataDirectory, 'global', 'pg_control'), 'r');
  try {
    const state = Buffer.alloc(4);
    await control.read(state, 0, 4, STATE_OFFSET);
    return state.readUInt32LE() === IN_PRODUCTION;
  } finally {
    await control.close();
  }
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    (error: unknown) => {
      if (systemCodeOf(error) === 'ENOENT') return false;
      throw error;
    },
  );
}

async function failureOf(logFile: string, error: unknown): Promise<PgarkError> {
  const text = await readFile(logFile, 'utf8').catch(() => '');
  const { failure, hint, fetchError } = readRecoveryLog(text);
  const why = failure ?? (hasStderr(error) ? error.stderr.trim() : messageOf(error));
  return new PgarkError('recovery-failed', `the restored server did not recover: ${why}`, {
    hint: `${hint === undefined ? '' : `${hint}; `}the whole log is ${logFile}`,
    cause: error,
    ...(fetchError !== undefined && { details: { fetchError } }),
  });
}

function hasStderr(error: unknown): error is { readonly stderr: string } {
  return error instanceof Error && 'stderr' in error && typeof error.stderr === 'string' && error.stderr.trim() !== '';
}
