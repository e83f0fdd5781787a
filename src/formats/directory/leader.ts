import { isPgarkError, messageOf, PgarkError } from '../../common/errors.ts';
import { type Session, sqlStateOf } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { watchSession } from '../../postgres/client/watch-session.ts';
import { LOCKED_TABLE_HINT } from '../dump-failure.ts';
import { LOCK_NOT_AVAILABLE, lostLeader, openDumpSession } from './dump-session.ts';
import { type KnownTable, listTables, readTableFacts, type TableFacts } from './tables.ts';

/** As long as the plain dump waits for its locks on tables. */
const LOCK_WAIT_MS = 5 * 60_000;
/** Tables that are locked by one statement. */
const LOCKS_AT_ONCE = 200;

/** SQLSTATEs of a table or schema that is not there any more, and of a deadlock. */
const GONE = new Set(['42P01', '3F000', '40P01']);

export interface LeaderRequest {
  readonly connection: ConnectionParameters;
  readonly applicationName: string;
  /** The server is asked at a third of this, in milliseconds, and has to answer within it. */
  readonly patienceMs: number;
  /** Ends the session at once. */
  readonly signal: AbortSignal;
}

/** What is locked, and what is known of it. */
interface Locked {
  /** Name of the snapshot that was exported. */
  readonly snapshot: string;
  /** All tables that have rows of their own, by their oids. */
  readonly facts: ReadonlyMap<number, TableFacts>;
  /** What all large objects of the database take. */
  readonly largeObjectBytes: number;
}

/** Tables were changed between being listed and being locked; the dump may begin anew. */
export class TablesChanged extends Error {
  override readonly name = 'TablesChanged';
}

/**
 * The session that a dump depends on: its transaction holds a lock on every table and has exported the snapshot by which
 * all others read. Nothing is to be kept of a dump whose leader was lost before all was read: tables that no other session
 * had locked yet may have been emptied meanwhile, and by the snapshot would seem to have no rows.
 */
export class Leader implements Locked {
  readonly session: Session;
  readonly snapshot: string;
  readonly facts: ReadonlyMap<number, TableFacts>;
  readonly largeObjectBytes: number;
  /** Aborted, with a `postgres-unreachable` error, once the session has ended or the server no longer answers on it. */
  readonly lost: AbortSignal;
  readonly #watch: ReturnType<typeof watchSession>;
  readonly #hangUp: () => void;
  readonly #signal: AbortSignal;

  constructor(session: Session, locked: Locked, request: LeaderRequest) {
    this.session = session;
    this.snapshot = locked.snapshot;
    this.facts = locked.facts;
    this.largeObjectBytes = locked.largeObjectBytes;
    const { database } = request.connection;
    this.#watch = watchSession(session, request.patienceMs, (why) => lostLeader(database, why));
    this.lost = this.#watch.lost;
    this.#signal = request.signal;
    this.#hangUp = () => void session.close();
    this.#signal.addEventListener('abort', this.#hangUp, { once: true });
  }

  /** False once it is known that the locks are not held any more. */
  get holds(): boolean {
    return this.session.alive && !this.lost.aborted;
  }

  /** The session is used for reading from now on, and not watched any more. */
  takeOver(): Session {
    this.#watch.stop();
    return this.session;
  }

  /** Rejects if the session has not held its locks until now. */
  async confirm(): Promise<void> {
    this.#watch.stop();
    this.lost.throwIfAborted();
    const { database } = this.session.parameters;
    if (!this.session.alive) throw lostLeader(database, 'the server, or somebody else, has ended it');
    try {
      await this.session.query('select 1');
    } catch (error) {
      throw lostLeader(database, messageOf(error));
    }
  }

  async close(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#hangUp);
    this.#watch.stop();
    if (this.session.alive) await this.session.close();
  }
}

/**
 * Locks first, then the snapshot (a TRUNCATE or a rewriting ALTER TABLE in between would be seen as an empty table), then
 * a look by the snapshot whether the tables are those that were locked. Error: `TablesChanged` if they are not,
 * `dump-failed` for a lock that is not to be had, `postgres-…`.
 */
export async function lead(request: LeaderRequest): Promise<Leader> {
  const { connection, applicationName, signal } = request;
  const session = await openDumpSession(connection, { applicationName, signal });
  const hangUp = (): void => void session.close();
  signal.addEventListener('abort', hangUp, { once: true });
  try {
    return new Leader(session, await lockAll(session), request);
  } catch (error) {
    await session.close();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', hangUp);
  }
}

async function lockAll(session: Session): Promise<Locked> {
  // By itself: a list that is taken within the transaction would take its snapshot before the locks.
  const listed = await listTables(session);
  await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY');
  await session.query(`SET LOCAL lock_timeout = ${LOCK_WAIT_MS}`);
  for (let at = 0; at < listed.length; at += LOCKS_AT_ONCE) {
    await lockTables(session, listed.slice(at, at + LOCKS_AT_ONCE));
  }
  const [row] = await session.query<{ snapshot: string }>('select pg_catalog.pg_export_snapshot() as snapshot');
  if (row === undefined) throw new PgarkError('postgres-failed', 'the server exported no snapshot');
  const tables = await listTables(session);
  const held = await heldLocks(session);
  if (!tables.every(({ oid }) => held.has(oid))) {
    throw new TablesChanged('a table was made, renamed or replaced while the dump began');
  }
  if (tables.some(({ isRewritten }) => isRewritten)) {
    throw new TablesChanged('a table was rewritten while the dump began');
  }
  const ordinary = tables.flatMap(({ oid, kind }) => (kind === 'r' ? [oid] : []));
  const facts = await readTableFacts(session, ordinary);
  const [size] = await session.query<{ bytes: string }>(
    `select pg_catalog.pg_table_size('pg_catalog.pg_largeobject')::text as bytes`,
  );
  return { snapshot: row.snapshot, facts, largeObjectBytes: Number(size?.bytes ?? 0) };
}

async function lockTables(session: Session, tables: readonly KnownTable[]): Promise<void> {
  const names = tables.map(({ sql }) => `ONLY ${sql}`).join(', ');
  try {
    await session.query(`LOCK TABLE ${names} IN ACCESS SHARE MODE`);
  } catch (error) {
    const state = sqlStateOf(error);
    if (state !== undefined && GONE.has(state)) throw new TablesChanged(messageOf(error), { cause: error });
    if (state !== LOCK_NOT_AVAILABLE || !isPgarkError(error)) throw error;
    throw new PgarkError('dump-failed', `the tables of the dump could not be locked: ${error.message}`, {
      cause: error,
      hint: LOCKED_TABLE_HINT,
    });
  }
}

/** Tables that the session holds locks on: whatever was called by its name meanwhile, this is what was locked. */
async function heldLocks(session: Session): Promise<ReadonlySet<number>> {
  const rows = await session.query<{ oid: string }>(
    `select l.relation::text as oid from pg_catalog.pg_locks l
      where l.locktype = 'relation' and l.pid = pg_catalog.pg_backend_pid() and l.granted and l.mode = 'AccessShareLock'`,
  );
  return new Set(rows.map(({ oid }) => Number(oid)));
}
