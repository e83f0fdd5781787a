import { createHash } from 'node:crypto';
import { PgarkError } from '../../common/errors.ts';
import { connect, type Session } from './connect.ts';
import type { ConnectionParameters } from './connection-parameters.ts';
import { watchSession } from './watch-session.ts';

/** First key of the two-key advisory locks of pgark: the letters "pgar". */
const LOCK_CLASS = 0x70676172;
const APPLICATION_PREFIX = 'pgark lock ';

/** A lock on a database, held by a session of its own as long as that lives. */
export interface DatabaseLock {
  /**
   * Aborted, with a `postgres-unreachable` error as the reason, once the session has ended or the server has not answered
   * on it for a whole `patienceMs`. A dump whose connection has gone dead without a word waits for ever by itself.
   */
  readonly lost: AbortSignal;
  /** Rejects with `lease-lost` unless the session is alive and still holds the lock. */
  confirm(): Promise<void>;
  release(): Promise<void>;
}

interface LockHolder {
  readonly runId: string | undefined;
  readonly address: string;
  readonly since: Date;
  readonly pid: number;
}

/**
 * Takes the advisory lock of a database on its own server: whoever backs up the same database, from whatever host and
 * into whatever storage, meets it. The lock's key comes from the database's name, so it guards each database alone; that of
 * the server's files is another one, which whoever backs them up by the same database meets.
 *
 * `mayTakeOver(runId)` is asked when another session holds it: true if that run is known to be dead (its lease has
 * expired by the store's clock). Its session is then ended, which also makes sure that it cannot commit any more.
 * Error: `locked`, saying who holds it.
 */
export async function lockDatabase(
  parameters: ConnectionParameters,
  options: {
    readonly runId: string;
    /** What is backed up: the content of the database, or the files of the server. Default: the database. */
    readonly of?: 'database' | 'server';
    /** Ends the taking at once, also while the server does not answer. */
    readonly signal?: AbortSignal | undefined;
    /** The server is asked at a third of this, in milliseconds, and has to answer within it. */
    readonly patienceMs: number;
    readonly mayTakeOver: (runId: string) => Promise<boolean>;
  },
): Promise<DatabaseLock> {
  const session = await connect(parameters, {
    applicationName: `${APPLICATION_PREFIX}${options.runId}`,
    signal: options.signal,
  });
  const hangUp = (): void => void session.close();
  options.signal?.addEventListener('abort', hangUp, { once: true });
  try {
    const { database, host, port } = parameters;
    const isServer = options.of === 'server';
    const subject = isServer ? `the server ${host}:${port}` : `database "${database}"`;
    const key = lockKey(isServer ? 'pgark server' : `pgark:${database}`);
    if (!(await tryLock(session, key))) {
      const holder = await findHolder(session, key);
      const dead = holder?.runId !== undefined && (await options.mayTakeOver(holder.runId));
      const taken = dead && holder !== undefined && (await seize(session, key, holder.pid));
      if (!taken) throw lockedError(subject, holder);
    }
    const watch = watchSession(session, options.patienceMs, (why) => lostLock(subject, why));
    return {
      lost: watch.lost,
      async confirm() {
        const [row] = await session
          .query<{ held: boolean }>(
            `select exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
                              and classid = $1 and objid::bigint = $2::bigint and granted) as held`,
            [LOCK_CLASS, (key >>> 0).toString()],
          )
          .catch(() => []);
        if (!row?.held) {
          throw new PgarkError('lease-lost', `the lock on ${subject} was lost: its session on the server has ended`);
        }
      },
      async release() {
        watch.stop();
        await session.close();
      },
    };
  } catch (error) {
    await session.close();
    options.signal?.throwIfAborted();
    throw error;
  } finally {
    options.signal?.removeEventListener('abort', hangUp);
  }
}

async function tryLock(session: Session, key: number): Promise<boolean> {
  const [row] = await session.query<{ locked: boolean }>('select pg_try_advisory_lock($1, $2) as locked', [
    LOCK_CLASS,
    key,
  ]);
  return row?.locked === true;
}

async function findHolder(session: Session, key: number): Promise<LockHolder | undefined> {
  const [row] = await session.query<{
    pid: number;
    application: string | null;
    address: string | null;
    since: Date | null;
  }>(
    `select a.pid, a.application_name as application, host(a.client_addr) as address, a.backend_start as since
       from pg_locks l join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and l.granted and l.classid = $1 and l.objid::bigint = $2::bigint
        and l.database = (select oid from pg_database where datname = current_database())
      limit 1`,
    [LOCK_CLASS, (key >>> 0).toString()],
  );
  if (!row) return undefined;
  const application = row.application ?? '';
  return {
    runId: application.startsWith(APPLICATION_PREFIX) ? application.slice(APPLICATION_PREFIX.length) : undefined,
    address: row.address ?? 'the server itself',
    since: row.since ?? new Date(0),
    pid: row.pid,
  };
}

/** Ends the session that holds the lock and takes it; false if it could not be had within about five seconds. */
async function seize(session: Session, key: number, pid: number): Promise<boolean> {
  await session.query('select pg_terminate_backend($1)', [pid]);
  for (let attempt = 0; attempt < 100; attempt++) {
    if (await tryLock(session, key)) return true;
    await session.query('select pg_sleep(0.05)');
  }
  return false;
}

function lostLock(subject: string, why: string): PgarkError {
  return new PgarkError('postgres-unreachable', `the connection that guards the backup of ${subject} is lost: ${why}`, {
    hint: 'see the server’s log and the network between; run the backup again when the server is back',
  });
}

function lockedError(subject: string, holder: LockHolder | undefined): PgarkError {
  if (holder === undefined) {
    return new PgarkError('locked', `${subject} is locked by another run, which has just ended or may not be seen`, {
      hint: 'run the command again',
    });
  }
  const run = holder.runId === undefined ? '' : `, run ${holder.runId}`;
  return new PgarkError(
    'locked',
    `${subject} is being backed up since ${holder.since.toISOString()} from ${holder.address}${run}`,
    {
      hint: 'wait for that run to end; if it is dead, its session on the server ends by itself or by pg_terminate_backend',
    },
  );
}

/** Second key: 32 bits of the SHA-256, signed as PostgreSQL's int4. */
function lockKey(subject: string): number {
  return createHash('sha256').update(subject).digest().readInt32BE(0);
}
