import { messageOf, PgarkError } from '../../common/errors.ts';
import { connect, quoteIdentifier as q, quoteLiteral, type Session, sqlStateOf } from './connect.ts';
import { actingRole, type ConnectionParameters } from './connection-parameters.ts';
import { propertyStatements, readOwnProperties } from './database-properties.ts';

const NAME_BYTES_MAX = 63;
const MAINTENANCE_DATABASES = ['postgres', 'template1'];

/** How a database was or is to be made; only what the target server knows is used. */
export interface DatabaseProperties {
  readonly owner?: string | undefined;
  readonly encoding: string;
  readonly collation: string;
  readonly ctype: string;
  /** `libc`, `icu` or `builtin`. */
  readonly localeProvider: string;
  readonly locale?: string | undefined;
  /** Rules that change an ICU locale's order (PostgreSQL 16 and newer). */
  readonly icuRules?: string | undefined;
  /** Missing: where databases are made anyhow. */
  readonly tablespace?: string | undefined;
}

/** A session on the same server in a database that is not the one to be made, renamed or dropped. */
export async function connectForMaintenance(
  parameters: ConnectionParameters,
  options: { readonly applicationName: string; readonly signal?: AbortSignal | undefined },
): Promise<Session> {
  let failure: unknown;
  for (const database of MAINTENANCE_DATABASES.filter((name) => name !== parameters.database)) {
    try {
      return await connect({ ...parameters, database }, options);
    } catch (error) {
      failure = error;
      const missing = error instanceof PgarkError && error.code === 'postgres-database-missing';
      if (!missing && sqlStateOf(error) !== '42501' && sqlStateOf(error) !== '55000') throw error;
    }
  }
  throw failure;
}

export async function databaseExists(session: Session, name: string): Promise<boolean> {
  const rows = await session.query('select from pg_database where datname = $1', [name]);
  return rows.length > 0;
}

export async function mayCreateDatabases(session: Session): Promise<boolean> {
  const [row] = await session.query<{ may: boolean }>(
    'select rolsuper or rolcreatedb as may from pg_roles where rolname = current_user',
  );
  return row?.may === true;
}

/**
 * Creates an empty database from template0. The owner is taken over if the role exists there and may own it; locale and
 * encoding where the server has them. Resolves with whether the owner is the one that was asked for.
 */
export async function createDatabase(
  session: Session,
  name: string,
  like: DatabaseProperties,
  serverMajor: number,
): Promise<boolean> {
  const clauses = [
    'TEMPLATE template0',
    `ENCODING ${quoteLiteral(like.encoding)}`,
    ...localeClauses(like, serverMajor),
    ...(like.tablespace === undefined ? [] : [`TABLESPACE ${q(like.tablespace)}`]),
  ];
  const takesOwner = like.owner !== undefined && (await mayOwn(session, like.owner));
  if (takesOwner) clauses.push(`OWNER ${q(like.owner ?? '')}`);
  try {
    await session.query(`CREATE DATABASE ${q(name)} ${clauses.join(' ')}`);
    return takesOwner || like.owner === undefined;
  } catch (error) {
    if (sqlStateOf(error) === '42501') {
      throw new PgarkError(
        'postgres-privileges',
        `role ${actingRole(session.parameters)} may not create the database on ${session.parameters.host}: ${messageOf(error)}`,
        {
          cause: error,
          hint: 'ALTER ROLE … CREATEDB, or restore with --to-url into an empty database that exists',
        },
      );
    }
    if (NOT_TO_BE_HAD.has(sqlStateOf(error) ?? '')) {
      throw new PgarkError('restore-failed', `the database cannot be made like the original: ${messageOf(error)}`, {
        cause: error,
        hint: `create it by hand with a locale that the target has, then restore into it with --to-url`,
      });
    }
    throw error;
  }
}

/** Wrong object type (a locale that is not there), invalid parameter value, feature not supported (built without ICU). */
const NOT_TO_BE_HAD = new Set(['42809', '22023', '0A000']);

/** First major version that knows databases of each provider; before, all are libc's. */
const PROVIDER_SINCE: Readonly<Record<string, number>> = { icu: 15, builtin: 17 };

/** Whether the server has databases that sort by this provider. */
export function knowsProvider(provider: string, serverMajor: number): boolean {
  return serverMajor >= (PROVIDER_SINCE[provider] ?? 0);
}

/** Clauses of CREATE DATABASE for how text sorts, in the words of this major version. */
export function localeClauses(like: DatabaseProperties, serverMajor: number): string[] {
  const { collation, ctype } = like;
  return [
    `LC_COLLATE ${quoteLiteral(collation)}`,
    `LC_CTYPE ${quoteLiteral(ctype)}`,
    // The clause came with the first provider besides libc.
    ...(serverMajor >= 15 ? providerClauses(like, serverMajor) : []),
  ];
}

function providerClauses(like: DatabaseProperties, serverMajor: number): string[] {
  const { localeProvider, locale, icuRules } = like;
  if (locale !== undefined && knowsProvider(localeProvider, serverMajor)) {
    if (localeProvider === 'builtin') return ['LOCALE_PROVIDER builtin', `BUILTIN_LOCALE ${quoteLiteral(locale)}`];
    if (localeProvider === 'icu') {
      const rules = icuRules === undefined || serverMajor < 16 ? [] : [`ICU_RULES ${quoteLiteral(icuRules)}`];
      return ['LOCALE_PROVIDER icu', `ICU_LOCALE ${quoteLiteral(locale)}`, ...rules];
    }
  }
  // Said always: without it, template0's own provider counts, which initdb may have made ICU.
  return ['LOCALE_PROVIDER libc'];
}

async function mayOwn(session: Session, role: string): Promise<boolean> {
  const [row] = await session.query<{ may: boolean }>(
    // The new owner's rights are needed too, for the load and the rename: being a member is not enough where the role
    // does not inherit, nor from PostgreSQL 16 on without SET.
    `select (select rolsuper from pg_roles where rolname = current_user)
            or (pg_has_role(oid, 'USAGE')
                and case when current_setting('server_version_num')::int >= 160000 then pg_has_role(oid, 'SET') else true end) as may
       from pg_roles where rolname = $1`,
    [role],
  );
  return row?.may === true;
}

/** Drops a database, also a template, and ends whoever is connected to it. */
export async function dropDatabase(session: Session, name: string): Promise<void> {
  const templates = await session.query('select from pg_database where datname = $1 and datistemplate', [name]);
  if (templates.length > 0) await session.query(`ALTER DATABASE ${q(name)} IS_TEMPLATE false`);
  await session.query(`DROP DATABASE IF EXISTS ${q(name)} WITH (FORCE)`);
}

/** Names of a database's subscriptions, which keep it from being dropped. */
export async function subscriptionsOf(session: Session, database: string): Promise<readonly string[]> {
  const rows = await session.query<{ name: string }>(
    `select s.subname as name from pg_subscription s join pg_database d on d.oid = s.subdbid
      where d.datname = $1 order by 1`,
    [database],
  );
  return rows.map((row) => row.name);
}

/** Properties of a database that a dump of its content does not hold, as statements that give them to another. */
export async function databaseSettings(session: Session, from: string, to: string): Promise<readonly string[]> {
  const properties = await readOwnProperties(session, from);
  if (properties === undefined) return [];
  const owner = await ownerOf(session, to);
  return propertyStatements(properties, to, owner === undefined ? [] : [owner]).map(({ sql }) => sql);
}

export async function ownerOf(session: Session, database: string): Promise<string | undefined> {
  const [row] = await session.query<{ owner: string }>(
    'select pg_get_userbyid(datdba) as owner from pg_database where datname = $1',
    [database],
  );
  return row?.owner;
}

/**
 * Tries whether the role may do at the end of a restore in place what it must: rename the old database and give its
 * grants and settings to the new one. Nothing stays of the try. Error: `postgres-privileges`.
 */
export async function checkMayReplace(
  session: Session,
  names: { readonly current: string; readonly loaded: string; readonly keepAs: string },
): Promise<void> {
  const { current, loaded } = names;
  const [row] = await session.query<{ owner: string; owns: boolean }>(
    `select pg_get_userbyid(datdba) as owner,
            (select rolsuper from pg_roles where rolname = current_user) or pg_has_role(datdba, 'USAGE') as owns
       from pg_database where datname = $1`,
    [current],
  );
  if (row?.owns === false) {
    throw new PgarkError(
      'postgres-privileges',
      `role ${actingRole(session.parameters)} may not rename database "${current}", which belongs to ${row.owner}`,
      { hint: `restore with role ${row.owner} or a superuser, or into a new database with --to-db NAME` },
    );
  }
  const settings = await databaseSettings(session, current, loaded);
  try {
    await session.query('BEGIN');
    for (const statement of settings) await session.query(statement);
  } catch (error) {
    throw new PgarkError(
      'postgres-privileges',
      `role ${actingRole(session.parameters)} may not give the new database all grants and settings of "${current}": ${messageOf(error)}`,
      { cause: error, hint: 'restore in place with a superuser, or into a new database with --to-db NAME' },
    );
  } finally {
    await session.query('ROLLBACK').catch(() => []);
  }
}

/** `name` and a suffix in the 63 bytes of an identifier: the name gives way, at a character's border. */
export function nameWithSuffix(name: string, suffix: string): string {
  const room = NAME_BYTES_MAX - Buffer.byteLength(suffix);
  let short = name;
  while (Buffer.byteLength(short) > room) short = [...short].slice(0, -1).join('');
  return `${short}${suffix}`;
}
