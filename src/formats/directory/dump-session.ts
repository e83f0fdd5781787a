import { PgarkError } from '../../common/errors.ts';
import { connect, type ConnectOptions, quoteLiteral, type Session, sqlStateOf } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';

/**
 * What pg_dump sets for itself (`setup_connection` in pg_dump.c), so that rows come out whole and the same whatever the
 * role, the database or the server are set to; and that a range of pages is read as one.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  search_path: '',
  row_security: 'off',
  DateStyle: 'ISO',
  IntervalStyle: 'postgres',
  // What pg_dump leaves to the server: the same text on another one, for what is known of rows by their hash.
  TimeZone: 'UTC',
  bytea_output: 'hex',
  extra_float_digits: '3',
  synchronize_seqscans: 'off',
  enable_tidscan: 'on',
  quote_all_identifiers: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  transaction_timeout: '0',
};

/** Names that a server does not know are not in its `pg_settings`. */
const SETTINGS_SQL = `select pg_catalog.set_config(s.name, v.setting, false)
  from pg_catalog.pg_settings s
  join (values ${Object.entries(SETTINGS)
    .map(([name, setting]) => `('${name}', '${setting}')`)
    .join(', ')}) as v(name, setting) on v.name = s.name`;

/** A session that reads for a dump, without a transaction yet. Errors: `postgres-…`. */
export async function openDumpSession(connection: ConnectionParameters, options: ConnectOptions): Promise<Session> {
  const session = await connect(connection, options);
  try {
    await session.query(SETTINGS_SQL);
    return session;
  } catch (error) {
    await session.close();
    throw error;
  }
}

/** A session that sees what another one has exported as its snapshot, and holds locks of its own. */
export class SnapshotSession {
  readonly session: Session;
  readonly #locked = new Set<string>();

  readonly #signal: AbortSignal | undefined;
  readonly #hangUp = (): void => void this.session.close();

  private constructor(session: Session, signal: AbortSignal | undefined) {
    this.session = session;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#hangUp, { once: true });
  }

  /** The signal ends the session at once, as long as it lasts. */
  static async open(
    connection: ConnectionParameters,
    snapshot: string,
    options: ConnectOptions,
  ): Promise<SnapshotSession> {
    const session = await openDumpSession(connection, options);
    try {
      await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY');
      await session.query(`SET TRANSACTION SNAPSHOT ${quoteLiteral(snapshot)}`);
      return new SnapshotSession(session, options.signal);
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  /**
   * Locks a table unless that would have to wait: for an ALTER TABLE that itself waits for the session which exported the
   * snapshot, and so for the end of the dump. Returns whether it is locked. A COPY would wait for ever in the same place.
   */
  async lock(table: string): Promise<boolean> {
    if (this.#locked.has(table)) return true;
    try {
      await this.session.query(
        `SAVEPOINT before_lock; LOCK TABLE ONLY ${table} IN ACCESS SHARE MODE NOWAIT; RELEASE before_lock`,
      );
    } catch (error) {
      if (sqlStateOf(error) !== LOCK_NOT_AVAILABLE) throw error;
      await this.session.query('ROLLBACK TO before_lock; RELEASE before_lock');
      return false;
    }
    this.#locked.add(table);
    return true;
  }

  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#hangUp);
    if (this.session.alive) await this.session.close();
  }
}

/** SQLSTATE of a lock that cannot be had, or not within `lock_timeout`. */
export const LOCK_NOT_AVAILABLE = '55P03';

/** The connection that a dump depends on is gone. */
export function lostLeader(database: string, why: string): PgarkError {
  return new PgarkError(
    'postgres-unreachable',
    `the connection that holds the snapshot of "${database}" is lost: ${why}`,
    { hint: 'see the server’s log and the network between; run the backup again when the server is back' },
  );
}
