import { quoteIdentifier as q, quoteLiteral, type Session } from './connect.ts';

/** `ALTER DATABASE … SET`, or `ALTER ROLE … IN DATABASE … SET` where there is a role. */
interface DatabaseSetting {
  readonly role?: string | undefined;
  readonly name: string;
  /** As the catalogue holds it: a list is one text, its elements quoted where they must be. */
  readonly value: string;
}

/** One right on the database; of PUBLIC where there is no grantee. */
interface DatabaseGrant {
  readonly grantee?: string | undefined;
  readonly privilege: string;
  readonly grantable: boolean;
}

/** What a database has besides its content, and what a dump of its content therefore does not hold. */
export interface OwnProperties {
  readonly settings: readonly DatabaseSetting[];
  /** Missing where nobody has changed the rights that PostgreSQL gives. */
  readonly grants?: readonly DatabaseGrant[] | undefined;
  readonly comment?: string | undefined;
  /** -1 is none. */
  readonly connectionLimit: number;
  readonly isTemplate: boolean;
  readonly tablespace: string;
}

/** Error: `postgres-…`. Undefined if there is no such database. Needs no connection to the database itself. */
export async function readOwnProperties(session: Session, database: string): Promise<OwnProperties | undefined> {
  const [row] = await session.query<{ oid: string }>('select oid::text as oid from pg_database where datname = $1', [
    database,
  ]);
  return row && readPropertiesOf(session, row.oid);
}

/** The same of the database that the server knows by this number. */
export async function readPropertiesOf(session: Session, oid: string): Promise<OwnProperties | undefined> {
  const [row] = await session.query<{
    comment: string | null;
    changed: boolean;
    limit: number;
    template: boolean;
    tablespace: string;
  }>(
    `select shobj_description(d.oid, 'pg_database') as comment, datacl is not null as changed, datconnlimit as "limit",
            datistemplate as template, t.spcname as tablespace
       from pg_database d join pg_tablespace t on t.oid = d.dattablespace where d.oid = $1`,
    [oid],
  );
  if (!row) return undefined;
  const grants = await session.query<{ grantee: string | null; privilege: string; grantable: boolean }>(
    `select case when a.grantee = 0 then null else pg_get_userbyid(a.grantee) end as grantee,
            a.privilege_type as privilege, a.is_grantable as grantable
       from pg_database d, aclexplode(d.datacl) a where d.oid = $1`,
    [oid],
  );
  const settings = await session.query<{ role: string | null; name: string; value: string }>(
    `select case when s.setrole = 0 then null else pg_get_userbyid(s.setrole) end as role,
            split_part(c, '=', 1) as name, substr(c, strpos(c, '=') + 1) as value
       from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) c where d.oid = $1`,
    [oid],
  );
  return {
    settings: settings.map(({ role, name, value }) => ({ ...(role === null ? {} : { role }), name, value })),
    ...(row.changed
      ? {
          grants: grants.map(({ grantee, privilege, grantable }) => ({
            ...(grantee === null ? {} : { grantee }),
            privilege,
            grantable,
          })),
        }
      : {}),
    ...(row.comment === null ? {} : { comment: row.comment }),
    connectionLimit: row.limit,
    isTemplate: row.template,
    tablespace: row.tablespace,
  };
}

/** A statement, and what it gives in a person's words, without any value. */
export interface PropertyStatement {
  readonly what: string;
  readonly sql: string;
}

/** All that PostgreSQL grants on databases; anything else is no word to put into a statement. */
const PRIVILEGES = new Set(['CREATE', 'CONNECT', 'TEMPORARY']);

/**
 * Statements that give a database the properties of another: but for the template flag, which would keep it from being
 * dropped, and the tablespace, which it is made in. `revokeFrom`: who has rights that the other one may have taken away.
 */
export function propertyStatements(
  properties: Pick<OwnProperties, 'grants' | 'comment'> & Partial<OwnProperties>,
  database: string,
  revokeFrom: readonly string[],
): readonly PropertyStatement[] {
  const { connectionLimit = -1, comment, grants, settings = [] } = properties;
  const statements: PropertyStatement[] = [];
  // -2 is the mark of a database whose removal was broken off.
  if (connectionLimit >= 0) {
    statements.push({
      what: 'the connection limit',
      sql: `ALTER DATABASE ${q(database)} CONNECTION LIMIT ${connectionLimit}`,
    });
  }
  if (comment !== undefined) {
    statements.push({
      what: 'the comment',
      sql: `COMMENT ON DATABASE ${q(database)} IS ${quoteLiteral(comment)}`,
    });
  }
  if (grants !== undefined) {
    // Without an entry of their own, PUBLIC and the owner have rights that the old database may have taken from them.
    const from = ['PUBLIC', ...revokeFrom.map(q)].join(', ');
    statements.push({ what: 'the revoked rights', sql: `REVOKE ALL ON DATABASE ${q(database)} FROM ${from}` });
  }
  for (const { grantee, privilege, grantable } of grants ?? []) {
    if (!PRIVILEGES.has(privilege)) continue;
    const to = grantee === undefined ? 'PUBLIC' : q(grantee);
    statements.push({
      what: `the right ${privilege} of ${to}`,
      sql: `GRANT ${privilege} ON DATABASE ${q(database)} TO ${to}${grantable ? ' WITH GRANT OPTION' : ''}`,
    });
  }
  for (const { role, name, value } of settings) {
    const subject = role === undefined ? `DATABASE ${q(database)}` : `ROLE ${q(role)} IN DATABASE ${q(database)}`;
    statements.push({
      what: role === undefined ? `the setting ${name}` : `the setting ${name} of role ${q(role)}`,
      sql: `ALTER ${subject} SET ${name.split('.').map(q).join('.')} TO ${settingValue(name, value)}`,
    });
  }
  return statements;
}

/**
 * Settings that would stop a load (read-only, limits of time and room), load it as somebody else, elsewhere or as other
 * values than it says, or put the errors that are looked for words into another language.
 */
const NOT_WHILE_LOADING = [
  /^(?:default_)?transaction_/,
  /^[^.]*(?:_timeout|_preload_libraries)$/,
  /^(?:role|session_authorization|session_replication_role)$/,
  /^(?:search_path|default_tablespace|default_table_access_method)$/,
  /^(?:array_nulls|backslash_quote|client_encoding|standard_conforming_strings)$/,
  /^(?:temp_file_limit|restrict_nonsystem_relation_kind)$/,
  /^(?:client_min_messages|lc_messages)$/,
];

/**
 * Whether a database has to have the setting before it is loaded, since what is computed meanwhile may go by it: by a time
 * zone, the format of money, a setting of the application's own. All others come when it is loaded.
 */
export function isForLoad({ role, name }: Pick<DatabaseSetting, 'role' | 'name'>): boolean {
  return role === undefined && !NOT_WHILE_LOADING.some((names) => names.test(name.toLowerCase()));
}

/** Settings that PostgreSQL stores as lists of names, quoted where they must be. */
const LIST_SETTINGS = new Set([
  'search_path',
  'temp_tablespaces',
  'session_preload_libraries',
  'local_preload_libraries',
  'shared_preload_libraries',
  'unix_socket_directories',
]);

/** The value of a setting that stands in a statement as these literals, as the catalogue holds it. */
export function cataloguedValue(name: string, literals: readonly string[]): string {
  return LIST_SETTINGS.has(name) ? literals.map(q).join(', ') : literals.join(', ');
}

/** A list is written as one literal for each of its names, as pg_dumpall does: no name needs to be a SQL identifier. */
function settingValue(name: string, value: string): string {
  if (!LIST_SETTINGS.has(name)) return quoteLiteral(value);
  const elements = [...value.matchAll(/"((?:[^"]|"")*)"|[^\s,"]+/g)].map(([whole, quoted]) =>
    quoteLiteral(quoted?.replaceAll('""', '"') ?? whole),
  );
  return elements.length === 0 ? `''` : elements.join(', ');
}

/**
 * The tablespace to make a database in: undefined is the one that databases are made in anyhow. `problem` says why it is
 * not the wanted one.
 */
export async function chooseTablespace(
  session: Session,
  wanted: string | undefined,
): Promise<{ readonly tablespace?: string; readonly problem?: string }> {
  if (wanted === undefined) return {};
  const [row] = await session.query<{ may: boolean; standard: boolean }>(
    `select has_tablespace_privilege(oid, 'CREATE') as may,
            oid = (select dattablespace from pg_database where datname = 'template0') as standard
       from pg_tablespace where spcname = $1`,
    [wanted],
  );
  if (row === undefined) return { problem: `the server has no tablespace "${wanted}"` };
  if (row.standard) return {};
  return row.may ? { tablespace: wanted } : { problem: `the role may not use the tablespace "${wanted}"` };
}
