import type { Session } from '../../postgres/client/connect.ts';

/** Rows of a catalogue that no lock on a table protects. SQL knows a row as `c`. */
interface Watched {
  readonly catalogue: string;
  /** Which rows; all where it is missing. Temporary objects come and go, and are in no dump. */
  readonly which?: string;
  /** What of a row must not change; all of it where this is missing: a change puts the row in another place. */
  readonly what?: string;
}

/** What is left of a type whose values the server may write otherwise than it did. */
interface WatchedType extends Watched {
  readonly what: string;
  /** Oid of the type. */
  readonly type: string;
}

const lastingSchema = (oid: string): string =>
  `exists (select from pg_catalog.pg_namespace n where n.oid = ${oid} and n.nspname !~ '^pg_(toast_)?temp_')`;
const lastingRelation = (oid: string, kinds: string): string =>
  `exists (select from pg_catalog.pg_class r where r.oid = ${oid} and r.relpersistence <> 't' and r.relkind in (${kinds}))`;

/**
 * What the server looks up as it is at that moment, whatever the snapshot, when it writes definitions (`pg_get_viewdef`,
 * `format_type`, a `regclass`). Of relations, triggers and functions, which are often changed in other ways, what can be seen there.
 */
const DEFINITIONS: readonly Watched[] = [
  { catalogue: 'pg_namespace', which: lastingSchema('c.oid') },
  {
    catalogue: 'pg_class',
    which: `c.relpersistence <> 't'`,
    what: `pg_catalog.concat_ws(' ', c.oid, c.relnamespace, c.relname)`,
  },
  { catalogue: 'pg_attribute', which: lastingRelation('c.attrelid', `'v', 'f', 'c'`) },
  { catalogue: 'pg_rewrite', which: lastingRelation('c.ev_class', `'r', 'p', 'v', 'm'`) },
  {
    catalogue: 'pg_trigger',
    which: lastingRelation('c.tgrelid', `'r', 'p', 'v', 'f'`),
    what: `pg_catalog.concat_ws(' ', c.oid, pg_catalog.md5((pg_catalog.to_jsonb(c) - 'tgenabled')::text))`,
  },
  { catalogue: 'pg_constraint', which: lastingSchema('c.connamespace') },
  {
    catalogue: 'pg_proc',
    which: lastingSchema('c.pronamespace'),
    what: `pg_catalog.concat_ws(' ', c.oid, pg_catalog.md5((pg_catalog.to_jsonb(c)
      - '{proowner,proacl,prosrc,probin,proconfig,procost,prorows}'::text[])::text))`,
  },
  { catalogue: 'pg_type', which: lastingSchema('c.typnamespace') },
  ...['pg_enum', 'pg_operator', 'pg_opclass', 'pg_opfamily', 'pg_collation'].map((catalogue) => ({ catalogue })),
  ...['pg_statistic_ext', 'pg_ts_config', 'pg_ts_dict'].map((catalogue) => ({ catalogue })),
];

/** The same for the values of columns. Relations that have rows of their own are locked. */
const TYPES: readonly WatchedType[] = [
  { catalogue: 'pg_enum', what: `pg_catalog.concat_ws(' ', c.oid, c.enumlabel)`, type: 'c.enumtypid' },
  {
    catalogue: 'pg_class',
    which: `c.relpersistence <> 't' and c.relkind in ('v', 'f', 'c')`,
    what: `pg_catalog.concat_ws(' ', c.oid, c.relnatts)`,
    type: 'c.reltype',
  },
  {
    catalogue: 'pg_attribute',
    which: lastingRelation('c.attrelid', `'v', 'f', 'c'`),
    what: `pg_catalog.concat_ws(' ', c.attrelid, c.attnum, c.atttypid, c.attisdropped)`,
    type: '(select r.reltype from pg_catalog.pg_class r where r.oid = c.attrelid)',
  },
];

/** A row that somebody has written to since the snapshot. He may not have committed that, or not have changed what counts. */
interface Touched {
  readonly catalogue: string;
  readonly what: string;
  /** `0` where it is no type's. */
  readonly type: string;
}

/** Rows of the transaction's snapshot that bear the number of a later transaction: mostly there are none. */
async function touchedSince(session: Session, watched: readonly (Watched & { readonly type?: string })[]) {
  const selects = watched.map((each) => selectOf(each, `c.xmax <> '0'::xid`));
  return session.query<{ catalogue: string; what: string; type: string }>(selects.join(' union all '));
}

/** Of these, what is not there any more as they had it. The session sees what is committed now. */
async function lostOf(
  session: Session,
  watched: readonly Watched[],
  touched: readonly Touched[],
): Promise<readonly Touched[]> {
  const selects = watched.map((each) => selectOf(each, `${whatOf(each)} = any($1::text[])`));
  const rows = await session.query<{ catalogue: string; what: string; type: string }>(selects.join(' union all '), [
    touched.map(({ what }) => what),
  ]);
  const there = new Set(rows.map(({ catalogue, what }) => `${catalogue} ${what}`));
  return touched.filter(({ catalogue, what }) => !there.has(`${catalogue} ${what}`));
}

function selectOf(watched: Watched & { readonly type?: string }, condition: string): string {
  const { catalogue, which = 'true', type = '0' } = watched;
  return `select '${catalogue}' as catalogue, ${whatOf(watched)} as what, (${type})::text as type
    from pg_catalog.${catalogue} c where ${condition} and ${which}`;
}

function whatOf({ what = 'c.ctid::text' }: Watched): string {
  return what;
}

/**
 * Catalogues in which something has changed since the session's snapshot that definitions are written by: what was written
 * since may not fit together. The session that `openNow` opens sees what is committed, and is closed again.
 */
export async function changedDefinitions(
  session: Session,
  openNow: () => Promise<Session>,
): Promise<readonly string[]> {
  const touched = await touchedSince(session, DEFINITIONS);
  if (touched.length === 0) return [];
  const now = await openNow();
  try {
    const lost = await lostOf(now, DEFINITIONS, touched);
    return [...new Set(lost.map(({ catalogue }) => catalogue))];
  } finally {
    await now.close();
  }
}

/** A type, and a table with a column of it, as they were called by the snapshot. */
export interface ChangedType {
  readonly type: string;
  readonly table: string;
}

/** Through arrays, domains, ranges, and types and tables that have it as a column. */
const USES_SQL = `with recursive uses(root, oid) as (
    select t.oid, t.oid from unnest($1::oid[]) as t(oid)
    union
    select uses.root, case when d.classid = 'pg_catalog.pg_type'::regclass then d.objid else r.reltype end
      from uses
      join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_type'::regclass and d.refobjid = uses.oid
       and (d.classid = 'pg_catalog.pg_type'::regclass or d.classid = 'pg_catalog.pg_class'::regclass and d.objsubid > 0)
      left join pg_catalog.pg_class r on d.classid = 'pg_catalog.pg_class'::regclass and r.oid = d.objid)
  select uses.root::text as oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) as type,
      min(pg_catalog.quote_ident(rn.nspname) || '.' || pg_catalog.quote_ident(r.relname)) as table
    from uses
    join pg_catalog.pg_class r on r.reltype = uses.oid and r.oid = any($2::oid[])
    join pg_catalog.pg_namespace rn on rn.oid = r.relnamespace
    join pg_catalog.pg_type t on t.oid = uses.root join pg_catalog.pg_namespace n on n.oid = t.typnamespace
   group by 1, 2`;

/**
 * A type that has changed since the session's snapshot so that its values are written in another way, such as an enum of
 * which a value was renamed, and that one of these tables has a column of. Ends the session's transaction if it has to look.
 */
export async function changedType(session: Session, tables: readonly number[]): Promise<ChangedType | undefined> {
  const touched = await touchedSince(session, TYPES);
  if (touched.length === 0) return undefined;
  const types = [...new Set(touched.map(({ type }) => type))];
  const used = await session.query<{ oid: string; type: string; table: string }>(USES_SQL, [types, tables]);
  if (used.length === 0) return undefined;
  await session.query('ROLLBACK');
  const lost = await lostOf(session, TYPES, touched);
  return used.find(({ oid }) => lost.some(({ type }) => type === oid));
}
