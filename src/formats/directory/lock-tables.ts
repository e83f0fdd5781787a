import type { Clock } from '../../common/clock.ts';
import { PgarkError } from '../../common/errors.ts';
import { type Session, sqlStateOf } from '../../postgres/client/connect.ts';
import { LOCK_ROOM_HINT, LOCKED_TABLE_HINT } from '../dump-failure.ts';
import { isRefusedLock, lockAtOnce } from './dump-session.ts';
import { type KnownTable, listTables } from './tables.ts';

/** As long as the plain dump waits for its locks on tables. */
const LOCK_WAIT_MS = 5 * 60_000;
/** Tables that are locked by one statement. */
const LOCKS_AT_ONCE = 200;
/** How often all tables are locked anew, at once, because one came or went in between. */
const ROUNDS_MAX = 20;

/** SQLSTATEs of a table or schema that is not there any more. */
const GONE: ReadonlySet<string | undefined> = new Set(['42P01', '3F000']);

/** SQLSTATE of, among others, a table of locks that is full. */
const OUT_OF_MEMORY = '53200';

/** Tables were changed between being listed and being locked; the dump may begin anew. */
export class TablesChanged extends Error {
  override readonly name = 'TablesChanged';
}

/** Something that the dump needs was changed meanwhile, or the catalogue is damaged; a few beginnings will tell. */
export class CatalogueChanged extends Error {
  override readonly name = 'CatalogueChanged';
}

/** What is locked. The session is in the transaction that holds the locks and sees by the snapshot. */
export interface LockedTables {
  /** Name of the snapshot that was exported. */
  readonly snapshot: string;
  /** By the snapshot. */
  readonly tables: readonly KnownTable[];
}

/**
 * Locks first, then the snapshot (a TRUNCATE or a rewriting ALTER TABLE in between would be seen as an empty table), then
 * a look by the snapshot whether the tables are those that were locked. While it waits for one table it holds no other: a
 * migration that has the one may want the other, and would be the victim of the deadlock. Error: `TablesChanged` if tables
 * come and go faster than they are locked, `dump-failed` for locks that are not to be had, `postgres-…`.
 */
export async function lockAllTables(session: Session, clock: Clock): Promise<LockedTables> {
  const deadlineMs = clock.monotonicMs() + LOCK_WAIT_MS;
  // By itself: a list that is taken within the transaction would take its snapshot before the locks.
  let listed = await listTables(session);
  let awaited: KnownTable | undefined;
  for (let round = 1; round <= ROUNDS_MAX; ) {
    await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    const refused = await lockTables(session, listed, awaited, deadlineMs - clock.monotonicMs());
    if (refused === undefined) {
      const { snapshot, tables, areHeld } = await look(session);
      if (areHeld) return { snapshot, tables };
      // The newest list there is.
      listed = tables;
    }
    await session.query('ROLLBACK');
    awaited = refused === 'gone' ? undefined : refused;
    if (refused !== undefined) listed = await listTables(session);
    // A wait has a limit of its own.
    if (awaited === undefined) round += 1;
  }
  throw new TablesChanged('tables were made, renamed or dropped while the dump began');
}

/**
 * The one that is waited for, then all others without waiting. Gives back a table that somebody else has; `gone` for one
 * that is not there any more. The transaction is of no use then.
 */
async function lockTables(
  session: Session,
  tables: readonly KnownTable[],
  awaited: KnownTable | undefined,
  patienceMs: number,
): Promise<KnownTable | 'gone' | undefined> {
  try {
    if (awaited !== undefined) await waitForLock(session, awaited, patienceMs);
    for (let at = 0; at < tables.length; at += LOCKS_AT_ONCE) {
      const refused = await lockOrFindRefused(session, tables.slice(at, at + LOCKS_AT_ONCE));
      if (refused !== undefined) return refused;
    }
    return undefined;
  } catch (error) {
    const state = sqlStateOf(error);
    if (GONE.has(state)) return 'gone';
    if (state !== OUT_OF_MEMORY) throw error;
    throw new PgarkError('dump-failed', `the server has no room for locks on ${tables.length} tables`, {
      cause: error,
      hint: LOCK_ROOM_HINT,
    });
  }
}

async function waitForLock(session: Session, { sql }: KnownTable, patienceMs: number): Promise<void> {
  const failure = (cause?: unknown): PgarkError =>
    new PgarkError(
      'dump-failed',
      `the tables of the dump could not be locked within ${LOCK_WAIT_MS / 60_000} minutes, at last because of ${sql}`,
      { cause, hint: LOCKED_TABLE_HINT },
    );
  if (patienceMs <= 0) throw failure();
  try {
    await session.query(`SET LOCAL lock_timeout = ${Math.ceil(patienceMs)}`);
    await session.query(`LOCK TABLE ONLY ${sql} IN ACCESS SHARE MODE; SET LOCAL lock_timeout = 0`);
  } catch (error) {
    throw isRefusedLock(error) ? failure(error) : error;
  }
}

/** Halves until it is one. */
async function lockOrFindRefused(session: Session, tables: readonly KnownTable[]): Promise<KnownTable | undefined> {
  if (
    await lockAtOnce(
      session,
      tables.map(({ sql }) => sql),
    )
  )
    return undefined;
  if (tables.length === 1) return tables[0];
  const half = Math.ceil(tables.length / 2);
  return (
    (await lockOrFindRefused(session, tables.slice(0, half))) ?? (await lockOrFindRefused(session, tables.slice(half)))
  );
}

/** The transaction's first look at anything, which gives it its snapshot. */
async function look(session: Session): Promise<LockedTables & { readonly areHeld: boolean }> {
  const [row] = await session.query<{ snapshot: string }>('select pg_catalog.pg_export_snapshot() as snapshot');
  if (row === undefined) throw new PgarkError('postgres-failed', 'the server exported no snapshot');
  const tables = await listTables(session);
  const held = await heldLocks(session);
  return { snapshot: row.snapshot, tables, areHeld: tables.every(({ oid }) => held.has(oid)) };
}

/** Tables that the session holds locks on: whatever was called by its name meanwhile, this is what was locked. */
async function heldLocks(session: Session): Promise<ReadonlySet<number>> {
  const rows = await session.query<{ oid: string }>(
    `select l.relation::text as oid from pg_catalog.pg_locks l
      where l.locktype = 'relation' and l.pid = pg_catalog.pg_backend_pid() and l.granted and l.mode = 'AccessShareLock'`,
  );
  return new Set(rows.map(({ oid }) => Number(oid)));
}
