import { quoteIdentifier as q, quoteLiteral, type Session } from './connect.ts';
import { databaseSettings } from './target-database.ts';

/** What a server has beside its databases, as far as this role sees it. */
export interface GlobalsFacts {
  readonly roles: number;
  readonly tablespaces: number;
  /** Whether the role may read pg_authid, where the passwords' digests are. */
  readonly mayReadPasswords: boolean;
  /** Roles that own or are granted something, and that the server does not list. */
  readonly hiddenRoles: number;
}

export async function readGlobalsFacts(session: Session): Promise<GlobalsFacts> {
  const [row] = await session.query<GlobalsFacts & Record<string, unknown>>(
    `select (select count(*)::int from pg_roles where rolname !~ '^pg_') as roles,
            (select count(*)::int from pg_tablespace where spcname !~ '^pg_') as tablespaces,
            has_table_privilege('pg_catalog.pg_authid', 'SELECT') as "mayReadPasswords",
            (select count(distinct used.role)::int
               from (select datdba as role from pg_database
                     union all select roleid from pg_auth_members
                     union all select member from pg_auth_members
                     union all select refobjid from pg_shdepend where refclassid = 'pg_authid'::regclass) used
              where not exists (select from pg_roles r where r.oid = used.role)) as "hiddenRoles"`,
  );
  return row ?? { roles: 0, tablespaces: 0, mayReadPasswords: false, hiddenRoles: 0 };
}

/**
 * Owners, settings and rights of the databases themselves, template1 among them, as SQL that does nothing for a database that is not there.
 * pg_dumpall leaves them to pg_dump, which writes them only where it also creates the database.
 */
export async function databaseSettingsScript(session: Session): Promise<string> {
  const databases = await session.query<{ name: string; owner: string }>(
    `select datname as name, pg_get_userbyid(datdba) as owner from pg_database
      where datallowconn and datconnlimit <> -2 order by datname collate "C"`,
  );
  const parts = [
    '\n--\n-- Owners, settings and rights of databases, of those that are there: run this once more when they are restored.\n--\n',
  ];
  for (const { name, owner } of databases) {
    const statements = [
      `ALTER DATABASE ${q(name)} OWNER TO ${q(owner)}`,
      ...(await databaseSettings(session, name, name)),
    ];
    const body = [
      'BEGIN',
      `  IF EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = ${quoteLiteral(name)}) THEN`,
      ...statements.map((statement) => `    ${statement};`),
      '  END IF;',
      'END',
    ].join('\n');
    parts.push(`\nDO ${dollarQuote(body)};\n`);
  }
  return parts.join('');
}

/** A string literal by a tag that the text does not hold. */
function dollarQuote(text: string): string {
  let tag = '$pgark$';
  for (let number = 1; text.includes(tag); number++) tag = `$pgark${number}$`;
  return `${tag}\n${text}\n${tag}`;
}
