import { assert, PgarkError } from '../../common/errors.ts';
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
  readonly #kept = new Set<number>();
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

  /** Locks tables as long as the session lasts, but for those whose lock would have to be waited for. */
  async keepLocked(oids: readonly number[]): Promise<void> {
    if (oids.length === 0) return;
    const names = await tableNames(this.session, oids);
    // Mostly nobody waits for any.
    const areLocked = await lockAtOnce(this.session, names);
    const locked = new Set<string>();
    for (const name of names) if (areLocked || (await lockAtOnce(this.session, [name]))) locked.add(name);
    // One that was renamed before it was locked has its turn when it is read.
    const namesNow = await tableNames(this.session, oids);
    for (const [index, oid] of oids.entries()) if (locked.has(namesNow[index] ?? '')) this.#kept.add(oid);
  }

  /**
   * Does something with a table locked, and all other locks that this takes are given back at its end: planning takes some
   * on the table's indexes, and a REINDEX, with everybody behind it, would have to wait for the end of the dump. Undefined,
   * and nothing is done, if the lock would have to be waited for: by somebody before us, such as an ALTER TABLE, who
   * himself waits for the session which exported the snapshot. A COPY would wait for ever in the same place.
   */
  async withLocked<T>(oid: number, work: () => Promise<T>): Promise<{ readonly result: T } | undefined> {
    await this.session.query('SAVEPOINT work');
    const isLocked = this.#kept.has(oid) || (await lockAtOnce(this.session, [await tableName(this.session, oid)]));
    const done = isLocked ? { result: await work() } : undefined;
    await this.session.query('ROLLBACK TO work; RELEASE work');
    return done;
  }

  async close(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#hangUp);
    if (this.session.alive) await this.session.close();
  }
}

/** SQLSTATE of a lock that cannot be had, or not within `lock_timeout`. */
const LOCK_NOT_AVAILABLE = '55P03';

export function isRefusedLock(error: unknown): boolean {
  return sqlStateOf(error) === LOCK_NOT_AVAILABLE;
}

/** Locks these tables, or none of them if one would have to be waited for; says whether they are locked. */
export async function lockAtOnce(session: Session, tables: readonly string[]): Promise<boolean> {
  const names = tables.map((table) => `ONLY ${table}`).join(', ');
  try {
    await session.query(`SAVEPOINT locks; LOCK TABLE ${names} IN ACCESS SHARE MODE NOWAIT; RELEASE locks`);
    return true;
  } catch (error) {
    if (!isRefusedLock(error)) throw error;
    await session.query('ROLLBACK TO locks; RELEASE locks');
    return false;
  }
}

/**
 * What tables are called now, with their schemas, quoted. No lock on a table keeps its schema from being renamed, nor
 * another one from getting that name; and the names in a statement are looked up as they are now, whatever the snapshot.
 */
async function tableNames(session: Session, oids: readonly number[]): Promise<readonly string[]> {
  const rows = await session.query<{ name: string }>(
    'select oid::pg_catalog.regclass::text as name from unnest($1::pg_catalog.oid[]) with ordinality as u(oid, at) order by at',
    [oids],
  );
  return rows.map(({ name }) => name);
}

/** The same of one table. */
export async function tableName(session: Session, oid: number): Promise<string> {
  const [name] = await tableNames(session, [oid]);
  assert(name !== undefined, 'whatever has an oid has a name or a number');
  return name;
}

/** The connection that a dump depends on is gone. */
export function lostLeader(database: string, why: string): PgarkError {
  return new PgarkError(
    'postgres-unreachable',
    `the connection that holds the snapshot of "${database}" is lost: ${why}`,
    { hint: 'see the server’s log and the network between; run the backup again when the server is back' },
  );
}
