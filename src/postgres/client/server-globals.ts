import { Secret } from '../../common/secret.ts';
import type { Session } from './connect.ts';

/** What may be said of a role by one word, and by the same word with NO before it. */
export const ROLE_FLAGS = [
  'SUPERUSER',
  'INHERIT',
  'CREATEROLE',
  'CREATEDB',
  'LOGIN',
  'REPLICATION',
  'BYPASSRLS',
] as const;
export type RoleFlag = (typeof ROLE_FLAGS)[number];

export interface ServerRole {
  readonly name: string;
  readonly flags: ReadonlySet<RoleFlag>;
  /** -1 is none. */
  readonly connectionLimit: number;
  /** The digest; null where there is none, undefined where it may not be read. */
  readonly password: Secret | null | undefined;
  readonly comment: string | undefined;
  /** By their names in lower case; values as the catalogue holds them. */
  readonly settings: ReadonlyMap<string, string>;
}

interface ServerMembership {
  readonly role: string;
  readonly member: string;
  readonly admin: boolean;
  readonly inherit: boolean;
  readonly set: boolean;
}

/** A right on a tablespace or a configuration parameter; of PUBLIC where there is no grantee. */
export interface ServerGrant {
  readonly on: string;
  readonly privilege: string;
  readonly grantee: string | undefined;
  readonly grantable: boolean;
}

interface ServerTablespace {
  readonly name: string;
  readonly owner: string;
  readonly location: string;
  readonly comment: string | undefined;
}

/** The roles and tablespaces that a server has, and who looks at them. */
export interface ServerGlobals {
  readonly major: number;
  /** The role that works in the session. */
  readonly self: string;
  readonly isSuperuser: boolean;
  readonly mayCreateRoles: boolean;
  /** The role that initdb has made, which owns what the server itself has. */
  readonly bootstrap: string | undefined;
  readonly roles: ReadonlyMap<string, ServerRole>;
  readonly memberships: readonly ServerMembership[];
  /** Of PostgreSQL 15 and newer. */
  readonly parameterGrants: readonly ServerGrant[];
  readonly tablespaces: ReadonlyMap<string, ServerTablespace>;
  readonly tablespaceGrants: readonly ServerGrant[];
  readonly databases: ReadonlySet<string>;
}

const FLAG_COLUMNS: Readonly<Record<RoleFlag, string>> = {
  SUPERUSER: 'rolsuper',
  INHERIT: 'rolinherit',
  CREATEROLE: 'rolcreaterole',
  CREATEDB: 'rolcreatedb',
  LOGIN: 'rolcanlogin',
  REPLICATION: 'rolreplication',
  BYPASSRLS: 'rolbypassrls',
};

/** Errors: `postgres-…`. */
export async function readServerGlobals(session: Session, major: number): Promise<ServerGlobals> {
  const [self] = await session.query<{ name: string; superuser: boolean; creates: boolean; passwords: boolean }>(
    `select rolname as name, rolsuper as superuser, rolsuper or rolcreaterole as creates,
            has_table_privilege('pg_catalog.pg_authid', 'SELECT') as passwords
       from pg_roles where rolname = current_user`,
  );
  const [bootstrap] = await session.query<{ name: string }>('select rolname as name from pg_roles where oid = 10');
  const roles = await readRoles(session, self?.passwords === true);
  const tablespaces = await session.query<{ name: string; owner: string; location: string; comment: string | null }>(
    `select spcname as name, pg_get_userbyid(spcowner) as owner, pg_tablespace_location(oid) as location,
            shobj_description(oid, 'pg_tablespace') as comment
       from pg_tablespace where spcname !~ '^pg_'`,
  );
  const databases = await session.query<{ name: string }>('select datname as name from pg_database');
  return {
    major,
    self: self?.name ?? session.parameters.user,
    isSuperuser: self?.superuser === true,
    mayCreateRoles: self?.creates === true,
    bootstrap: bootstrap?.name,
    databases: new Set(databases.map(({ name }) => name)),
    roles: new Map(roles.map((role) => [role.name, role])),
    memberships: await readMemberships(session, major),
    parameterGrants:
      major < 15
        ? []
        : await readGrants(session, 'select parname as name, paracl as acl from pg_catalog.pg_parameter_acl'),
    tablespaces: new Map(
      tablespaces.map(({ comment, ...rest }) => [rest.name, { ...rest, comment: comment ?? undefined }]),
    ),
    tablespaceGrants: await readGrants(
      session,
      `select spcname as name, coalesce(spcacl, acldefault('t', spcowner)) as acl from pg_catalog.pg_tablespace`,
    ),
  };
}

async function readRoles(session: Session, withPasswords: boolean): Promise<readonly ServerRole[]> {
  const flags = ROLE_FLAGS.map((flag) => `case when r.${FLAG_COLUMNS[flag]} then '${flag}' end`).join(', ');
  const rows = await session.query<{
    name: string;
    flags: RoleFlag[];
    limit: number;
    password: string | null;
    comment: string | null;
    settings: string[] | null;
  }>(
    `select r.rolname as name, array_remove(array[${flags}], null) as flags, r.rolconnlimit as "limit",
            ${withPasswords ? 'a.rolpassword' : 'null'} as password, shobj_description(r.oid, 'pg_authid') as comment,
            (select setconfig from pg_db_role_setting where setrole = r.oid and setdatabase = 0) as settings
       from pg_roles r ${withPasswords ? 'join pg_authid a on a.oid = r.oid' : ''}`,
  );
  return rows.map(({ name, flags: set, limit, password, comment, settings }) => ({
    name,
    flags: new Set(set),
    connectionLimit: limit,
    password: withPasswords ? (password === null ? null : new Secret(password)) : undefined,
    comment: comment ?? undefined,
    settings: new Map((settings ?? []).map(settingOf)),
  }));
}

/** `work_mem=7MB` */
function settingOf(setting: string): [string, string] {
  const end = setting.indexOf('=');
  return [setting.slice(0, end).toLowerCase(), setting.slice(end + 1)];
}

async function readMemberships(session: Session, major: number): Promise<readonly ServerMembership[]> {
  const options = major < 16 ? 'true as inherit, true as set' : 'inherit_option as inherit, set_option as set';
  return session.query<ServerMembership & Record<string, unknown>>(
    `select pg_get_userbyid(roleid) as role, pg_get_userbyid(member) as member, admin_option as admin, ${options}
       from pg_auth_members`,
  );
}

/** `from`: names and access lists. */
async function readGrants(session: Session, from: string): Promise<readonly ServerGrant[]> {
  const rows = await session.query<{ on: string; privilege: string; grantee: string | null; grantable: boolean }>(
    `select o.name as "on", a.privilege_type as privilege, a.is_grantable as grantable,
            case when a.grantee = 0 then null else pg_get_userbyid(a.grantee) end as grantee
       from (${from}) o, aclexplode(o.acl) a`,
  );
  return rows.map(({ grantee, ...rest }) => ({ ...rest, grantee: grantee ?? undefined }));
}

/**
 * Roles of the server that end at another time than is said of them, undefined being never. A time that the server does not
 * understand is another one.
 */
export async function rolesOfOtherValidity(
  session: Session,
  stored: readonly { readonly name: string; readonly validUntil?: string | undefined }[],
): Promise<ReadonlySet<string>> {
  const others = new Set<string>();
  for (const { name, validUntil } of stored) {
    const [row] = await session
      .query<{ same: boolean }>(
        `select coalesce(rolvaliduntil, 'infinity') = coalesce($2::timestamptz, 'infinity') as same
           from pg_roles where rolname = $1`,
        [name, validUntil ?? null],
      )
      .catch(() => [{ same: false }]);
    if (row?.same === false) others.add(name);
    if (!session.alive) break;
  }
  return others;
}

/** Of these paths, those that are no directory on the server's machine; none where the role may not look. */
export async function missingDirectories(session: Session, paths: readonly string[]): Promise<ReadonlySet<string>> {
  try {
    const rows = await session.query<{ path: string }>(
      'select path from unnest($1::text[]) path where (pg_stat_file(path, true)).isdir is not true',
      [paths],
    );
    return new Set(rows.map(({ path }) => path));
  } catch {
    return new Set();
  }
}
