import { assert, PgarkError } from '../../common/errors.ts';
import { quoteIdentifier as q, quoteLiteral, type Session, sqlStateOf } from './connect.ts';

/**
 * Puts a loaded database into the place of the current one: both renames in one transaction. Whoever is connected to
 * either is sent away by `helper`, a second session, while the rename waits for them; new connections wait for the
 * rename. If it fails, or either session is cut, both databases keep their names. Where the answer to COMMIT is lost, the
 * server is asked what came of it.
 */
export async function swapDatabases(
  session: Session,
  helper: Session,
  names: { readonly current: string; readonly loaded: string; readonly keepAs: string },
): Promise<void> {
  const { current, loaded, keepAs } = names;
  const before = await identityOf(session, loaded);
  let committing = false;
  const ended = new AbortController();
  const sendAway = async (): Promise<void> => {
    // pg_sleep keeps the pace on the server; the loop ends with the transaction.
    while (!ended.signal.aborted) {
      // Asking to end a session that one may not end is an error, which would keep the others alive.
      await helper.query(
        `select pg_terminate_backend(pid) from pg_stat_activity a
          where datname = any($1) and pid <> pg_backend_pid()
            and exists (select from pg_roles me where me.rolname = current_user and (me.rolsuper or (a.usesysid is not null
                  and (pg_has_role(a.usesysid, 'USAGE') or (pg_has_role('pg_signal_backend', 'USAGE')
                       and not (select rolsuper from pg_roles where oid = a.usesysid))))))`,
        [[current, loaded]],
      );
      await helper.query('select pg_sleep(0.1)');
    }
  };
  const sent = sendAway().then(
    () => undefined,
    (error: unknown) => error,
  );
  try {
    await session.query('BEGIN');
    await session.query(`ALTER DATABASE ${q(current)} RENAME TO ${q(keepAs)}`);
    await session.query(`ALTER DATABASE ${q(loaded)} RENAME TO ${q(current)}`);
    committing = true;
    await session.query('COMMIT');
  } catch (error) {
    ended.abort();
    await session.query('ROLLBACK').catch(() => []);
    const cause = (await sent) ?? error;
    if (committing && (await hasBecome(helper, before, current))) return;
    if (sqlStateOf(error) !== '55006') throw error;
    await refusePrepared(helper, current, { cause });
    throw new PgarkError('restore-failed', `database "${current}" is in use and its sessions could not be ended`, {
      cause,
      hint: 'stop the applications that use it, or restore with a role that has pg_signal_backend; the loaded copy was dropped',
    });
  }
  ended.abort();
  await sent;
}

const NAMES_SHOWN_MAX = 3;

/**
 * A transaction that was prepared for two-phase commit holds its database like a session, and there is none to end. Error:
 * `restore-failed`, if the database has any, with their names.
 */
export async function refusePrepared(session: Session, database: string, options?: { cause: unknown }): Promise<void> {
  const rows = await session.query<{ gid: string; owner: string }>(
    'select gid, owner from pg_prepared_xacts where database = $1 order by prepared',
    [database],
  );
  if (rows.length === 0) return;
  const names = rows.slice(0, NAMES_SHOWN_MAX).map(({ gid, owner }) => `${quoteLiteral(gid)} of role ${owner}`);
  const more = rows.length > NAMES_SHOWN_MAX ? ` and ${rows.length - NAMES_SHOWN_MAX} more` : '';
  throw new PgarkError(
    'restore-failed',
    `database "${database}" cannot be replaced while it has prepared transactions: ${names.join(', ')}${more}`,
    {
      ...options,
      hint: 'end each in that database with COMMIT PREPARED or ROLLBACK PREPARED (pg_prepared_xacts lists them), then restore again',
    },
  );
}

interface LoadedDatabase {
  readonly oid: number;
  /** The server's process that is to rename it. */
  readonly backend: number;
}

async function identityOf(session: Session, database: string): Promise<LoadedDatabase> {
  const [row] = await session.query<{ oid: number; backend: number }>(
    'select oid::int8::float8 as oid, pg_backend_pid() as backend from pg_database where datname = $1',
    [database],
  );
  assert(row !== undefined, 'the database that was loaded is there');
  return row;
}

/** Whether the database has the name, once the server's process that was to give it to it has ended. */
async function hasBecome(helper: Session, { oid, backend }: LoadedDatabase, name: string): Promise<boolean> {
  try {
    await helper.asUser(() => helper.query('select pg_terminate_backend($1)', [backend]));
    await helper.query(
      `do $$ begin
         while exists (select from pg_stat_activity where pid = ${backend}) loop
           perform pg_sleep(0.05), pg_stat_clear_snapshot();
         end loop;
       end $$`,
    );
    const [row] = await helper.query<{ oid: number }>(
      'select oid::int8::float8 as oid from pg_database where datname = $1',
      [name],
    );
    return row?.oid === oid;
  } catch {
    return false;
  }
}
