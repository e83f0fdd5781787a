import { assert, PgarkError } from '../../common/errors.ts';
import { quoteIdentifier as q, quoteLiteral, type Session, sqlStateOf } from './connect.ts';

interface Rename {
  readonly from: string;
  readonly to: string;
}

/** A database that is loaded, and what it is called once it is in its place. */
interface Loaded {
  readonly current: string;
  readonly loaded: string;
}

/** Puts a loaded database into the place of the current one. Errors: see `renameTogether`. */
export async function swapDatabases(
  session: Session,
  helper: Session,
  names: Loaded & { readonly keepAs: string },
): Promise<void> {
  await renameTogether(session, helper, names, { from: names.current, to: names.keepAs });
}

/** Gives a loaded database a name that no other has. Errors: see `renameTogether`. */
export async function renameLoaded(session: Session, helper: Session, names: Loaded): Promise<void> {
  await renameTogether(session, helper, names);
}

/**
 * All renames in one transaction, with the end of the comment, which is the mark of an unfinished restore. Whoever is
 * connected to one of the databases, be it monitoring that looks into each, is sent away by `helper`, a second session,
 * while the rename waits for them; new connections wait for the rename. If it fails, or either session is cut, the
 * databases keep their names. Where the answer to COMMIT is lost, the server is asked what came of it. Error: `restore-failed` where a name is taken by now, or a database is in use by whom nobody sends away.
 */
async function renameTogether(
  session: Session,
  helper: Session,
  { current, loaded }: Loaded,
  replaced?: Rename,
): Promise<void> {
  const renames = [...(replaced === undefined ? [] : [replaced]), { from: loaded, to: current }];
  const before = await identityOf(session, loaded);
  let doing: Rename | undefined;
  let committing = false;
  const ended = new AbortController();
  const databases = renames.map(({ from }) => from);
  const sent = sendAway(helper, databases, ended.signal).then(
    () => undefined,
    (error: unknown) => error,
  );
  try {
    await session.query('BEGIN');
    for (doing of renames) await session.query(`ALTER DATABASE ${q(doing.from)} RENAME TO ${q(doing.to)}`);
    await session.query(`COMMENT ON DATABASE ${q(current)} IS NULL`);
    committing = true;
    await session.query('COMMIT');
  } catch (error) {
    ended.abort();
    await session.query('ROLLBACK').catch(() => []);
    const cause = (await sent) ?? error;
    if (committing && (await hasBecome(helper, before, current))) return;
    throw doing === undefined ? error : await reasonOf({ error, cause }, doing, doing === replaced, helper);
  }
  ended.abort();
  await sent;
}

/** Ends what sessions the role may end, and what the user may who has logged in: neither need have the other's rights. */
async function sendAway(helper: Session, databases: readonly string[], ended: AbortSignal): Promise<void> {
  // Asking to end a session that one may not end is an error, which would keep the others alive.
  const end = (): Promise<unknown> =>
    helper.query(
      `select pg_terminate_backend(pid) from pg_stat_activity a
        where datname = any($1) and pid <> pg_backend_pid()
          and exists (select from pg_roles me where me.rolname = current_user and (me.rolsuper or (a.usesysid is not null
                and (pg_has_role(a.usesysid, 'USAGE') or (pg_has_role('pg_signal_backend', 'USAGE')
                     and not (select rolsuper from pg_roles where oid = a.usesysid))))))`,
      [databases],
    );
  // pg_sleep keeps the pace on the server; the loop ends with the transaction.
  while (!ended.aborted) {
    await end();
    if (helper.parameters.role !== undefined) await helper.asUser(end);
    await helper.query('select pg_sleep(0.1)');
  }
}

const IN_USE = 'is in use and its sessions could not be ended';

/** Whether others kept a database from its new name, which says nothing of what it holds. */
export function isInUse({ message }: PgarkError): boolean {
  return message.endsWith(IN_USE);
}

async function reasonOf(
  { error, cause }: { readonly error: unknown; readonly cause: unknown },
  { from, to }: Rename,
  isReplaced: boolean,
  helper: Session,
): Promise<unknown> {
  const state = sqlStateOf(error);
  // The second one where the other's transaction ended in between.
  if (state === '42P04' || state === '23505') {
    return new PgarkError(
      'restore-failed',
      `database "${to}" was made by somebody else, such as another restore, while this one was loading`,
      {
        cause: error,
        hint: 'look at what it holds; if it is not what you want, restore under another name, or drop it and restore again',
      },
    );
  }
  if (state !== '55006') return error;
  if (isReplaced) await refusePrepared(helper, from, { cause });
  return new PgarkError('restore-failed', `database "${from}" ${IN_USE}`, {
    cause,
    hint: isReplaced
      ? 'stop the applications that use it, or restore with a role that has pg_signal_backend; the loaded copy was dropped'
      : 'keep others, monitoring too, out of a database that is being restored; or restore with a role that may end their sessions: one that has pg_signal_backend, a superuser for those of superusers',
  });
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
