import type { Session } from './connect.ts';

/** Tables of extensions whose rows are the users'. pg_extension.extcondition has as many elements. */
export const EXTENSION_ROWS_SQL = `select u.oid, u.condition, e.extname as extension
  from pg_catalog.pg_extension e, unnest(e.extconfig, e.extcondition) as u(oid, condition)`;

/**
 * Those whose rows a dump of this role would hold, under the name that SQL knows them by. pg_dump takes the rows of
 * partitioned tables only from partitions that are in the list themselves, and none of views.
 */
export const READABLE_EXTENSION_ROWS_SQL = `select configured.oid, condition, extension,
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as relation
  from (${EXTENSION_ROWS_SQL}) as configured
  join pg_catalog.pg_class c on c.oid = configured.oid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r'
   and pg_catalog.has_schema_privilege(n.oid, 'USAGE') and pg_catalog.has_table_privilege(c.oid, 'SELECT')
 order by configured.oid`;

/** A table that an extension has made. */
export interface ExtensionTable {
  readonly extension: string;
  readonly relation: string;
}

/** A table of an extension that holds rows of users', if there is one. */
export async function findExtensionRows(session: Session): Promise<ExtensionTable | undefined> {
  await session.query('BEGIN');
  // Conditions are written for pg_dump, which finds nothing by itself but what the server has.
  await session.query(`select pg_catalog.set_config('search_path', 'pg_catalog', true)`);
  const tables = await session.query<{ extension: string; relation: string; condition: string }>(
    READABLE_EXTENSION_ROWS_SQL,
  );
  let found: ExtensionTable | undefined;
  for (const { extension, relation, condition } of tables) {
    const [row] = await session.query<{ some: boolean }>(
      `select exists (select from only ${relation} ${condition}) as some`,
    );
    if (row?.some === true) found ??= { extension, relation };
  }
  await session.query('COMMIT');
  return found;
}
