import type { ClientBase } from 'pg';

/** What a database holds, short enough to compare: equal fingerprints mean equal content. */
export interface Fingerprint {
  /** Every table, partition and materialized view with rows, by name. */
  readonly tables: readonly TableFingerprint[];
  /** Everything else, by name: `sequence stock.barcode_seq` → its values, `view …` → its definition. */
  readonly objects: ReadonlyMap<string, string>;
}

interface TableFingerprint {
  /** Qualified and quoted as in SQL. */
  readonly table: string;
  readonly rowCount: number;
  /** Of all rows, whatever their order. */
  readonly hash: string;
}

/** The user's schemas: neither the catalogue's nor temporary ones. */
const USER_SCHEMA = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`;

/** Rows are hashed as text, so everything that text depends on is fixed. Names come out qualified. */
const SESSION = `
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL search_path = '';
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO';
SET LOCAL intervalstyle = 'postgres';
SET LOCAL extra_float_digits = 1;
SET LOCAL bytea_output = 'hex';
`;

const OBJECTS = [
  `SELECT format('sequence %I.%I', schemaname, sequencename) AS object,
          concat_ws(' ', last_value, start_value, increment_by, min_value, max_value, cycle, cache_size, data_type) AS value
   FROM pg_catalog.pg_sequences`,
  `SELECT format('large object %s', oid) AS object, md5(pg_catalog.lo_get(oid)) AS value
   FROM pg_catalog.pg_largeobject_metadata`,
  `SELECT format('columns of %s', c.oid::regclass) AS object,
          string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attnotnull,
                     a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)), E'\\n' ORDER BY a.attnum) AS value
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
   LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND ${USER_SCHEMA} GROUP BY c.oid`,
  `SELECT format('kind of %s', c.oid::regclass) AS object,
          concat_ws(' ', c.relkind, c.relpersistence, c.relispopulated, pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid)) AS value
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'm', 'f') AND ${USER_SCHEMA}`,
  `SELECT format('view %s', c.oid::regclass) AS object, pg_get_viewdef(c.oid) AS value
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('v', 'm') AND ${USER_SCHEMA}`,
  `SELECT format('index %s', c.oid::regclass) AS object, pg_get_indexdef(c.oid) AS value
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('i', 'I') AND ${USER_SCHEMA}`,
  `SELECT format('constraint %I of %s', x.conname, coalesce(x.conrelid::regclass::text, x.contypid::regtype::text)) AS object,
          pg_get_constraintdef(x.oid) AS value
   FROM pg_catalog.pg_constraint x JOIN pg_catalog.pg_namespace n ON n.oid = x.connamespace WHERE ${USER_SCHEMA}`,
  `SELECT format('routine %s', p.oid::regprocedure) AS object, pg_get_functiondef(p.oid) AS value
   FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
   WHERE p.prokind IN ('f', 'p') AND ${USER_SCHEMA}`,
  `SELECT format('trigger %I of %s', t.tgname, t.tgrelid::regclass) AS object, pg_get_triggerdef(t.oid) AS value
   FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal`,
  `SELECT format('rule %I of %s', r.rulename, r.ev_class::regclass) AS object, pg_get_ruledef(r.oid) AS value
   FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE r.rulename <> '_RETURN' AND ${USER_SCHEMA}`,
  `SELECT format('enum %s', e.enumtypid::regtype) AS object, string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) AS value
   FROM pg_catalog.pg_enum e GROUP BY e.enumtypid`,
  `SELECT format('policy %I of %s', p.polname, p.polrelid::regclass) AS object,
          concat_ws(' ', p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) AS value
   FROM pg_catalog.pg_policy p`,
  `SELECT format('access to %s', c.oid::regclass) AS object,
          concat_ws(' ', pg_get_userbyid(c.relowner), (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(
            coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a)) AS value
   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND ${USER_SCHEMA}`,
  `SELECT format('extension %I', extname) AS object, extversion AS value FROM pg_catalog.pg_extension`,
  `SELECT format('comment on %s %s', i.type, i.identity) AS object, d.description AS value
   FROM pg_catalog.pg_description d, LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
   LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = i.schema
   WHERE (i.type = 'schema' AND i.identity !~ '^pg_' AND i.identity <> 'information_schema') OR ${USER_SCHEMA}`,
];

/**
 * Reads everything once, in one snapshot of the database. The connection must not be in a transaction, and its role must
 * be able to read all tables; the work is done by the server.
 */
export async function fingerprintDatabase(connection: ClientBase): Promise<Fingerprint> {
  await connection.query(SESSION);
  try {
    const { rows: names } = await connection.query<{ name: string }>(
      `SELECT c.oid::regclass::text AS name FROM pg_catalog.pg_class c
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND ${USER_SCHEMA} ORDER BY 1`,
    );
    const tables: TableFingerprint[] = [];
    for (const { name } of names) {
      // A sum, unlike an exclusive or, also counts rows that are there twice. ROW(t.*), because a column may be called t.
      const { rows } = await connection.query<{ count: string; hash: string }>(
        `SELECT count(*) AS count, coalesce(sum(hashtextextended(ROW(t.*)::text, 0)), 0) AS hash FROM ONLY ${name} AS t`,
      );
      tables.push({ table: name, rowCount: Number(rows[0]?.count), hash: String(rows[0]?.hash) });
    }
    const objects = new Map<string, string>();
    for (const sql of OBJECTS) {
      const { rows } = await connection.query<{ object: string; value: string | null }>(`${sql} ORDER BY 1`);
      for (const { object, value } of rows) objects.set(object, value ?? '');
    }
    return { tables, objects };
  } finally {
    await connection.query('ROLLBACK');
  }
}

/** What differs, as sentences; empty if nothing does. */
export function compareFingerprints(before: Fingerprint, after: Fingerprint): string[] {
  const tablesAfter = new Map(after.tables.map((entry) => [entry.table, entry]));
  const tablesBefore = new Set(before.tables.map((entry) => entry.table));
  const differences: string[] = [];
  for (const was of before.tables) {
    const is = tablesAfter.get(was.table);
    if (is === undefined) differences.push(`table ${was.table} is missing (it had ${was.rowCount} rows)`);
    else if (is.rowCount !== was.rowCount) {
      differences.push(`table ${was.table} has ${is.rowCount} rows instead of ${was.rowCount}`);
    } else if (is.hash !== was.hash) differences.push(`table ${was.table} has other values in its ${is.rowCount} rows`);
  }
  for (const { table } of after.tables) if (!tablesBefore.has(table)) differences.push(`table ${table} is new`);

  for (const [object, was] of before.objects) {
    const is = after.objects.get(object);
    if (is === undefined) differences.push(`${object} is missing`);
    else if (is !== was) differences.push(`${object} differs: "${is}" instead of "${was}"`);
  }
  for (const object of after.objects.keys()) if (!before.objects.has(object)) differences.push(`${object} is new`);
  return differences;
}
