import { connect, type ConnectOptions, quoteIdentifier, type Session } from './connect.ts';
import type { ConnectionParameters } from './connection-parameters.ts';

/** GRANT SET ON PARAMETER came with it. */
const GRANTS_SETTINGS_SINCE = 150_000;

/** What a server says of the language that it tells its errors in. */
export interface Language {
  /** `lc_messages`: `de_DE.UTF-8`. */
  readonly messages: string;
  /** Whether the one who has logged in may choose another one. */
  readonly mayChoose: boolean;
}

/**
 * Whether a server that is set so says its errors in English. `C.UTF-8` is English but in odd environments. One that does not
 * say exactly may have been started in any language.
 */
export function isEnglish(messages: string): boolean {
  return /^(?:C|POSIX)(?:\.|$)|^en(?:[_.-]|glish|$)/i.test(messages);
}

/** What becomes of a language that the user may not change, and what changes it; undefined for none. */
export function describeForeign(
  { messages, mayChoose }: Language,
  { host, port, user }: ConnectionParameters,
): string | undefined {
  if (mayChoose || messages === '' || isEnglish(messages)) return undefined;
  const remedy = `ALTER ROLE ${quoteIdentifier(user)} SET lc_messages = 'C'`;
  return `${host}:${port} says its errors in ${messages}, so that pgark has fewer hints on what pg_dump and pg_restore fail with: a superuser mends it by ${remedy}`;
}

/**
 * The same connection, on which the server speaks English if its user may choose that: what pg_dump and pg_restore pass on of a server has
 * no SQLSTATE to go by. Unchanged behind a pooler, which need not know options; where the language cannot be asked for, too, and
 * where a login that asks for it is refused: hints are not worth a backup. Errors: the reason of the signal.
 */
export async function inEnglish(
  session: Session,
  connection: ConnectionParameters,
  login: ConnectOptions,
): Promise<ConnectionParameters> {
  const { messages, mayChoose } = await readLanguage(session).catch(() => ({ messages: '', mayChoose: false }));
  if (!mayChoose || /^(?:C$|POSIX$|en)/i.test(messages)) return connection;
  const { options } = connection;
  // First: the server goes by their order, and asks the right of the role that those of the user may name.
  const english = { ...connection, options: `-c lc_messages=C${options === undefined ? '' : ` ${options}`}` };
  return (await isLetIn(english, login)) ? english : connection;
}

async function isLetIn(connection: ConnectionParameters, login: ConnectOptions): Promise<boolean> {
  try {
    await (await connect(connection, login)).close();
    return true;
  } catch {
    login.signal?.throwIfAborted();
    return false;
  }
}

/** Of the session, whatever role it works as. */
export async function readLanguage(session: Session): Promise<Language> {
  const [row] = await session.query<{ messages: string; version: number; pid: number; super: boolean }>(
    `select current_setting('lc_messages') as messages, current_setting('server_version_num')::int as version,
            pg_catalog.pg_backend_pid() as pid,
            (select rolsuper from pg_catalog.pg_roles where rolname = session_user) as super`,
  );
  if (row === undefined || row.pid !== session.announcedPid) return { messages: row?.messages ?? '', mayChoose: false };
  if (row.super || row.version < GRANTS_SETTINGS_SINCE) return { messages: row.messages, mayChoose: row.super };
  const [right] = await session.query<{ may: boolean }>(
    `select pg_catalog.has_parameter_privilege(session_user, 'lc_messages', 'SET') as may`,
  );
  return { messages: row.messages, mayChoose: right?.may === true };
}
