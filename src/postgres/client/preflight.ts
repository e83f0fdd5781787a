import { PgarkError } from '../../common/errors.ts';
import type { Session } from './connect.ts';
import { refuseSharedSessions } from './pooler.ts';
import { checkLargeObjects } from './large-objects.ts';
import { readSortLibraries, type SortLibraries } from './sort-libraries.ts';

/** What the server says about itself. */
export interface ServerFacts {
  readonly version: string;
  readonly versionNum: number;
  readonly major: number;
  readonly inRecovery: boolean;
  readonly systemIdentifier: string | undefined;
  /** By which its text is sorted. */
  readonly libraries: SortLibraries;
}

/** What a database is and how it was made. */
export interface DatabaseForm {
  readonly name: string;
  readonly oid: string;
  readonly owner: string;
  readonly encoding: string;
  readonly collation: string;
  readonly ctype: string;
  readonly localeProvider: 'libc' | 'icu' | 'builtin';
  readonly locale: string | undefined;
  /** Rules that change an ICU locale's order. */
  readonly icuRules: string | undefined;
  readonly collationVersion: string | undefined;
}

/** What the catalogue says about one database. */
export interface DatabaseFacts extends DatabaseForm {
  readonly bytes: number;
}

const SERVER_MAJOR_MIN = 13;

/**
 * Errors: `postgres-failed` for a server that is too old, `postgres-pooler` where the session is a pooler's that may be
 * given to others at any time.
 */
export async function readServerFacts(session: Session): Promise<ServerFacts> {
  const [row] = await session.query<{ version: string; num: string; recovery: boolean; pid: number }>(
    `select current_setting('server_version') as version, current_setting('server_version_num') as num,
            pg_is_in_recovery() as recovery, pg_backend_pid() as pid`,
  );
  if (!row) throw new PgarkError('postgres-failed', 'the server gave no version');
  await refuseSharedSessions(session, row.pid);
  const versionNum = Number(row.num);
  const major = Math.floor(versionNum / 10_000);
  if (major < SERVER_MAJOR_MIN) {
    throw new PgarkError(
      'postgres-failed',
      `the server is PostgreSQL ${row.version}; pgark supports ${SERVER_MAJOR_MIN} and newer`,
      {
        hint: 'upgrade the server, or use the pg_dump of its own version by hand',
      },
    );
  }
  // Not everybody may call pg_control_system; a missing identifier is recorded as missing.
  const identifier = await session
    .query<{ id: string }>('select system_identifier::text as id from pg_control_system()')
    .catch(() => []);
  return {
    version: row.version,
    versionNum,
    major,
    inRecovery: row.recovery,
    systemIdentifier: identifier[0]?.id,
    libraries: await readSortLibraries(session),
  };
}

/**
 * Of the session's own database. Its name is the one that it was asked for by, where those are the bytes that the server knows it
 * by: it reads them in the encoding of the database, and may see other characters in them than whoever named it.
 */
export async function readDatabaseFacts(session: Session, server: ServerFacts): Promise<DatabaseFacts> {
  const asked = session.parameters.database;
  const [row] = await session.query<{ oid: string; other: string | null; bytes: string }>(
    `select oid::text as oid, pg_database_size(oid)::text as bytes,
            case when convert_to(datname, getdatabaseencoding()) = decode($1, 'hex') then null else datname end as other
       from pg_database where datname = current_database()`,
    [Buffer.from(asked).toString('hex')],
  );
  const form = row && (await readForm(session, server, row.other ?? asked, { column: 'oid', value: row.oid }));
  if (!form) throw new PgarkError('postgres-failed', 'the server does not list the database it is connected to');
  return { ...form, bytes: Number(row.bytes) };
}

/** Of any database of the server, also of one that takes no connections; undefined if it is not there. */
export async function readDatabaseForm(
  session: Session,
  server: ServerFacts,
  database: string,
): Promise<DatabaseForm | undefined> {
  return readForm(session, server, database, { column: 'datname', value: database });
}

async function readForm(
  session: Session,
  server: ServerFacts,
  name: string,
  by: { readonly column: 'datname' | 'oid'; readonly value: string },
): Promise<DatabaseForm | undefined> {
  const provider = server.major >= 15 ? 'd.datlocprovider' : `'c'`;
  const locale = server.major >= 17 ? 'd.datlocale' : server.major >= 15 ? 'd.daticulocale' : 'null::text';
  const rules = server.major >= 16 ? 'd.daticurules' : 'null::text';
  const version = server.major >= 15 ? 'd.datcollversion' : 'null::text';
  const [row] = await session.query<{
    oid: string;
    owner: string;
    encoding: string;
    collation: string;
    ctype: string;
    provider: string;
    locale: string | null;
    rules: string | null;
    version: string | null;
  }>(
    `select d.oid::text as oid, pg_get_userbyid(d.datdba) as owner,
            pg_encoding_to_char(d.encoding) as encoding, d.datcollate as collation, d.datctype as ctype,
            ${provider}::text as provider, ${locale} as locale, ${rules} as rules, ${version} as version
       from pg_database d where d.${by.column} = $1`,
    [by.value],
  );
  if (!row) return undefined;
  return {
    name,
    oid: row.oid,
    owner: row.owner,
    encoding: row.encoding,
    collation: row.collation,
    ctype: row.ctype,
    localeProvider: row.provider === 'i' ? 'icu' : row.provider === 'b' ? 'builtin' : 'libc',
    locale: row.locale ?? undefined,
    icuRules: row.rules ?? undefined,
    collationVersion: row.version ?? undefined,
  };
}

const NAMES_SHOWN_MAX = 5;

/**
 * Finds out, before any work, whether the role may read everything that a dump reads; row-level security counts, since
 * it would leave rows out in silence. Error: `postgres-privileges`, naming what is missing and the grant that helps.
 */
export async function checkReadPrivileges(session: Session): Promise<void> {
  const [role] = await session.query<{ name: string; super: boolean; bypass: boolean }>(
    'select quote_ident(rolname) as name, rolsuper as super, rolbypassrls as bypass from pg_roles where rolname = current_user',
  );
  if (!role || role.super) return;
  const ofExtension = `exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')`;
  const unreadable = await session.query<{ name: string }>(
    `select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'S', 'm') and c.relpersistence <> 't'
        and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and not ${ofExtension}
        and not (has_schema_privilege(n.oid, 'USAGE')
                 and case when c.relkind = 'S' then has_sequence_privilege(c.oid, 'SELECT')
                          else has_table_privilege(c.oid, 'SELECT') end)
      order by 1`,
  );
  if (unreadable.length > 0) {
    throw new PgarkError(
      'postgres-privileges',
      `role ${role.name} may not read ${count(unreadable.length, 'table or sequence', 'tables and sequences')}: ${shorten(unreadable)}`,
      {
        hint: `GRANT pg_read_all_data TO ${role.name} (PostgreSQL 14 and newer), or grant USAGE and SELECT on each schema and table`,
      },
    );
  }
  await checkLargeObjects(session, role.name);
  if (role.bypass) return;
  const limited = await session.query<{ name: string }>(
    `select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p') and c.relrowsecurity and not ${ofExtension}
        and (c.relforcerowsecurity or not pg_has_role(c.relowner, 'USAGE'))
      order by 1`,
  );
  if (limited.length > 0) {
    throw new PgarkError(
      'postgres-privileges',
      `row-level security would hide rows from role ${role.name} in ${count(limited.length, 'table', 'tables')}: ${shorten(limited)}`,
      { hint: `ALTER ROLE ${role.name} BYPASSRLS, or back up with a role that owns these tables` },
    );
  }
}

/**
 * Tables whose rows a dump of this server leaves out, by name: a standby has none of unlogged tables, which pg_dump leaves out
 * there without a word.
 */
export async function readUnreadTables(session: Session, { inRecovery }: ServerFacts): Promise<readonly string[]> {
  if (!inRecovery) return [];
  const rows = await session.query<{ name: string }>(
    `select quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and c.relpersistence = 'u' and n.nspname !~ '^pg_'
      order by 1`,
  );
  return rows.map(({ name }) => name);
}

function count(number: number, one: string, many: string): string {
  return number === 1 ? `1 ${one}` : `${number} ${many}`;
}

function shorten(rows: readonly { readonly name: string }[]): string {
  const shown = rows
    .slice(0, NAMES_SHOWN_MAX)
    .map((row) => row.name)
    .join(', ');
  return rows.length > NAMES_SHOWN_MAX ? `${shown} and ${rows.length - NAMES_SHOWN_MAX} more` : shown;
}
