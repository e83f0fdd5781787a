import type { Clock } from '../../common/clock.ts';
import { messageOf } from '../../common/errors.ts';
import type { Session } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { watchSession } from '../../postgres/client/watch-session.ts';
import { lostLeader, openDumpSession } from './dump-session.ts';
import { lockAllTables } from './lock-tables.ts';
import { readTableFacts, type TableFacts } from './tables.ts';

export interface LeaderRequest {
  readonly connection: ConnectionParameters;
  readonly applicationName: string;
  /** The server is asked at a third of this, in milliseconds, and has to answer within it. */
  readonly patienceMs: number;
  readonly clock: Clock;
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
 * Locks all tables and exports a snapshot by which they are as they were locked. Error: `TablesChanged` if they are changed
 * too fast for that, `dump-failed` for a lock that is not to be had, `postgres-…`.
 */
export async function lead(request: LeaderRequest): Promise<Leader> {
  const { connection, applicationName, clock, signal } = request;
  const session = await openDumpSession(connection, { applicationName, signal });
  const hangUp = (): void => void session.close();
  signal.addEventListener('abort', hangUp, { once: true });
  try {
    const { snapshot, tables } = await lockAllTables(session, clock);
    const ordinary = tables.flatMap(({ oid, kind }) => (kind === 'r' ? [oid] : []));
    const facts = await readTableFacts(session, ordinary);
    const [size] = await session.query<{ bytes: string }>(
      `select pg_catalog.pg_table_size('pg_catalog.pg_largeobject')::text as bytes`,
    );
    return new Leader(session, { snapshot, facts, largeObjectBytes: Number(size?.bytes ?? 0) }, request);
  } catch (error) {
    await session.close();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', hangUp);
  }
}
