import type { Session } from '../../postgres/client/connect.ts';
import { EXTENSION_ROWS_SQL } from '../../postgres/client/extension-rows.ts';

/** A table whose definition or rows a dump may hold. */
export interface KnownTable {
  readonly oid: number;
  /** `public."T able"`: schema and name, quoted as SQL. */
  readonly sql: string;
  /** Code of `pg_class.relkind`: an ordinary table or a partitioned one. */
  readonly kind: 'r' | 'p';
}

/** What has to be known of a table to read its rows in pieces. */
export interface TableFacts {
  readonly oid: number;
  readonly sql: string;
  readonly schema: string;
  readonly name: string;
  /** Quoted, in their order, without generated ones: `id, "b c"`. Empty for a table without columns. */
  readonly columns: string;
  readonly columnCount: number;
  /** Stored in pages that can be read by their numbers. */
  readonly isHeap: boolean;
  /** With what is stored beside it (TOAST). */
  readonly bytes: number;
  readonly pages: number;
  /** Triggers of users; those of foreign keys do not count. */
  readonly hasTriggers: boolean;
  /** `WHERE …` of an extension that has given out which rows of its table are the user's; else empty. */
  readonly condition: string;
}

/**
 * What pg_dump takes into account (`getTables`, `selectDumpableTable`): tables of users' schemas, of extensions only those
 * with rows of users. What belongs to an extension is none of a dump's, and may not be readable.
 */
const KNOWN_SQL = `select c.oid::text as oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as sql,
    c.relkind::text as kind
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p') and c.relpersistence <> 't'
   and case when exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass
                            and d.objid = c.oid and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e')
            then c.oid in (select oid from (${EXTENSION_ROWS_SQL}) as configured)
             and pg_catalog.has_schema_privilege(n.oid, 'USAGE') and pg_catalog.has_table_privilege(c.oid, 'SELECT')
            else n.nspname !~ '^pg_' and n.nspname <> 'information_schema' end
 order by c.oid`;

const FACTS_SQL = `select c.oid::text as oid, n.nspname as schema, c.relname as name,
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) as sql,
    coalesce(columns.list, '') as columns, columns.number::int as number,
    coalesce(am.amname = 'heap', false) and c.relkind = 'r' as heap,
    coalesce(pg_catalog.pg_table_size(c.oid), 0)::text as bytes,
    (coalesce(pg_catalog.pg_relation_size(c.oid), 0) / current_setting('block_size')::int)::text as pages,
    exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal) as triggers,
    coalesce((select condition from (${EXTENSION_ROWS_SQL}) as configured where configured.oid = c.oid), '') as condition
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_am am on am.oid = c.relam
  cross join lateral (
    select string_agg(pg_catalog.quote_ident(a.attname), ', ' order by a.attnum) as list, count(*) as number
      from pg_catalog.pg_attribute a
     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') as columns
 where c.oid = any($1::oid[])`;

/** In the order of their oids; in the order of nothing but names a table that is renamed would be met twice or never. */
export async function listTables(session: Session): Promise<readonly KnownTable[]> {
  const rows = await session.query<{ oid: string; sql: string; kind: 'r' | 'p' }>(KNOWN_SQL);
  return rows.map(({ oid, sql, kind }) => ({ oid: Number(oid), sql, kind }));
}

/** Of those that are asked for, by their oids. Sizes are those of now, which is after the snapshot. */
export async function readTableFacts(
  session: Session,
  oids: readonly number[],
): Promise<ReadonlyMap<number, TableFacts>> {
  const rows = await session.query<{
    oid: string;
    schema: string;
    name: string;
    sql: string;
    columns: string;
    number: number;
    heap: boolean;
    bytes: string;
    pages: string;
    triggers: boolean;
    condition: string;
  }>(FACTS_SQL, [oids]);
  return new Map(
    rows.map(({ oid, schema, name, sql, columns, number, heap, bytes, pages, triggers, condition }) => [
      Number(oid),
      {
        oid: Number(oid),
        sql,
        schema,
        name,
        columns,
        columnCount: number,
        isHeap: heap,
        bytes: Number(bytes),
        pages: Number(pages),
        hasTriggers: triggers,
        condition,
      },
    ]),
  );
}
