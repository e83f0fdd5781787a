import type { Session } from './connect.ts';
import { READABLE_EXTENSION_ROWS_SQL } from './extension-rows.ts';

/** `FirstNormalObjectId` of access/transam.h: what is below came with the server. */
const FIRST_NORMAL_OID = 16384;

/** Whoever may not drop one owns neither of its types, and has not made it. */
const OWN_CASTS = `pg_cast c JOIN pg_type s ON s.oid = c.castsource JOIN pg_type t ON t.oid = c.casttarget
     WHERE c.oid >= ${FIRST_NORMAL_OID} AND (pg_has_role(s.typowner, 'USAGE') OR pg_has_role(t.typowner, 'USAGE'))`;

/** Catalogs whose objects lie in schemas, and the columns that say in which. */
const CATALOGS_OF_SCHEMAS = [
  ['pg_proc', 'pronamespace'],
  ['pg_type', 'typnamespace'],
  ['pg_collation', 'collnamespace'],
  ['pg_conversion', 'connamespace'],
  ['pg_operator', 'oprnamespace'],
  ['pg_opfamily', 'opfnamespace'],
  ['pg_opclass', 'opcnamespace'],
  ['pg_statistic_ext', 'stxnamespace'],
  ['pg_ts_config', 'cfgnamespace'],
  ['pg_ts_dict', 'dictnamespace'],
  ['pg_ts_parser', 'prsnamespace'],
  ['pg_ts_template', 'tmplnamespace'],
] as const;

/** Catalogs of what lies in no schema. */
const CATALOGS_WITHOUT_SCHEMA = ['pg_publication', 'pg_event_trigger', 'pg_foreign_server', 'pg_foreign_data_wrapper'];

/**
 * Something in the session's database that a user has made, or undefined for an empty one; for people, `collation
 * public.german`. Whatever `EMPTY_DATABASE_SQL` drops is looked for: what a failed load leaves is dropped by it, and nothing that was there
 * before. Default privileges are none, since platforms give some to every database; and there may be rows in tables of
 * extensions: see `findExtensionRows`.
 */
export async function findObject(session: Session): Promise<string | undefined> {
  const [row] = await session.query<{ object: string }>(`
    with schemas as (select oid, nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'),
    made as (
      select 'pg_class'::regclass::oid as catalog, oid from pg_class where relnamespace in (select oid from schemas) and relkind not in ('i', 'I')
      union all select 'pg_namespace'::regclass, oid from schemas where nspname <> 'public'
      ${CATALOGS_OF_SCHEMAS.map(([catalog, column]) => `union all select '${catalog}'::regclass, oid from ${catalog} where ${column} in (select oid from schemas)`).join('\n')}
      ${CATALOGS_WITHOUT_SCHEMA.map((catalog) => `union all select '${catalog}'::regclass, oid from ${catalog}`).join('\n')}
      union all select 'pg_cast'::regclass, c.oid from ${OWN_CASTS}
      union all select 'pg_largeobject'::regclass, oid from pg_largeobject_metadata),
    own as (
      select catalog, oid from made
       -- Large objects may have any number.
       where (oid >= ${FIRST_NORMAL_OID} or catalog = 'pg_largeobject'::regclass)
         and not exists (select from pg_depend e where e.classid = made.catalog and e.objid = made.oid and e.deptype in ('e', 'i'))
       order by catalog <> 'pg_class'::regclass, catalog, oid limit 1)
    select o.type || ' ' || o.identity as object from own, pg_identify_object(own.catalog, own.oid, 0) o
    union all
    -- Before PostgreSQL 14 nobody may read their oids.
    select 'subscription ' || quote_ident(subname) from pg_subscription
     where subdbid = (select oid from pg_database where datname = current_database())`);
  return row?.object;
}

/**
 * Drops the subscriptions of the session's database. Without a slot of theirs, nothing is asked of the publisher: the
 * slot there stays, since it may serve the same subscription in another copy of the database.
 */
const DROP_SUBSCRIPTIONS = `FOR item IN SELECT subname AS name FROM pg_catalog.pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  LOOP
    EXECUTE pg_catalog.format('ALTER SUBSCRIPTION %I DISABLE', item.name);
    EXECUTE pg_catalog.format('ALTER SUBSCRIPTION %I SET (slot_name = NONE)', item.name);
    EXECUTE pg_catalog.format('DROP SUBSCRIPTION %I', item.name);
  END LOOP;`;

/** SQL that takes away what keeps a database from being dropped, besides sessions. */
export const DROP_SUBSCRIPTIONS_SQL = `DO $pgark$
DECLARE
  item record;
BEGIN
  ${DROP_SUBSCRIPTIONS}
END $pgark$`;

/**
 * Default privileges that the session's role may change: it has not made others, and a platform may have. What one needs to
 * be of the role in question changed with PostgreSQL 16.
 */
const OWN_DEFAULT_PRIVILEGES = `pg_default_acl d JOIN pg_roles r ON r.oid = d.defaclrole
        AND pg_has_role(r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'USAGE' ELSE 'MEMBER' END)
      LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
      JOIN (VALUES ('r', 'TABLES', NULL), ('S', 'SEQUENCES', NULL), ('f', 'FUNCTIONS', 'EXECUTE'), ('T', 'TYPES', 'USAGE'),
                   ('n', 'SCHEMAS', NULL), ('L', 'LARGE OBJECTS', NULL)) t (kind, objects, public_right) ON t.kind = d.defaclobjtype::text`;

/**
 * Statements that make the default privileges what they are now, once `EMPTY_DATABASE_SQL` has taken them back to PostgreSQL's
 * own.
 */
export async function defaultPrivilegesOf(session: Session): Promise<readonly string[]> {
  const rows = await session.query<{ statement: string }>(`
    with own as (
      select d.oid, d.defaclacl as acl, t.objects, n.oid is null as of_all_schemas, quote_ident(r.rolname) as role,
             format('ALTER DEFAULT PRIVILEGES FOR ROLE %I', r.rolname) || coalesce(' IN SCHEMA ' || quote_ident(n.nspname), '') as alter
        from ${OWN_DEFAULT_PRIVILEGES})
    select statement from (
      select oid, 1 as turn, format('%s REVOKE ALL ON %s FROM %s, PUBLIC', alter, objects, role) as statement from own where of_all_schemas
      union all
      select oid, 2, format('%s GRANT %s ON %s TO %s%s', alter, string_agg(a.privilege_type, ', '), objects,
                            case when a.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end,
                            case when a.is_grantable then ' WITH GRANT OPTION' else '' end)
        from own, aclexplode(acl) a group by oid, alter, objects, a.grantee, a.is_grantable) as statements
     order by oid, turn`);
  return rows.map(({ statement }) => statement);
}

/**
 * SQL that removes everything of users' from a database, for a load in the same transaction. Extensions stay, and what
 * belongs to them: a dump's CREATE EXTENSION IF NOT EXISTS finds them. Those in a schema of their own are dropped with it
 * where the role may, since the dump makes that schema anew. Of those that stay, rows are deleted that a dump holds: it
 * would bring them once more.
 */
export const EMPTY_DATABASE_SQL = `DO $pgark$
DECLARE
  item record;
  has_rows boolean;
  deletions text[] := '{}';
  search_path_before constant text := pg_catalog.current_setting('search_path');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog', true);
  FOR item IN SELECT evtname AS name FROM pg_event_trigger t
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = t.oid AND d.deptype = 'e')
  LOOP EXECUTE format('DROP EVENT TRIGGER %I CASCADE', item.name); END LOOP;
  ${DROP_SUBSCRIPTIONS}
  FOR item IN SELECT pubname AS name FROM pg_publication
  LOOP EXECUTE format('DROP PUBLICATION %I', item.name); END LOOP;
  FOR item IN
    SELECT x.extname AS name FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
     WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public') AND pg_has_role(x.extowner, 'USAGE')
       AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')
  LOOP EXECUTE format('DROP EXTENSION IF EXISTS %I CASCADE', item.name); END LOOP;
  FOR item IN SELECT nspname AS name FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid AND e.deptype = 'e')
      AND NOT EXISTS (SELECT FROM pg_extension x WHERE x.extnamespace = n.oid)
  LOOP EXECUTE format('DROP SCHEMA %I CASCADE', item.name); END LOOP;
  -- What is left lies in public and in schemas of extensions. A cascade may take what comes later in the list.
  FOR item IN
    SELECT d.classid, d.objid FROM pg_namespace n
      JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.deptype = 'n' AND d.objsubid = 0
     WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND d.classid <> 'pg_extension'::regclass
       AND d.classid <> 'pg_default_acl'::regclass
       AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.objsubid = 0 AND e.deptype IN ('e', 'i'))
     ORDER BY d.classid, d.objid
  LOOP
    IF EXISTS (SELECT FROM pg_depend e WHERE e.classid = item.classid AND e.objid = item.objid AND e.refclassid = 'pg_namespace'::regclass) THEN
      EXECUTE (SELECT format('DROP %s %s CASCADE', CASE o.type WHEN 'statistics object' THEN 'statistics' ELSE o.type END, o.identity)
                 FROM pg_identify_object(item.classid, item.objid, 0) o);
    END IF;
  END LOOP;
  FOR item IN SELECT srvname AS name FROM pg_foreign_server s
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_foreign_server'::regclass AND d.objid = s.oid AND d.deptype = 'e')
  LOOP EXECUTE format('DROP SERVER %I CASCADE', item.name); END LOOP;
  FOR item IN SELECT fdwname AS name FROM pg_foreign_data_wrapper f
    WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_foreign_data_wrapper'::regclass AND d.objid = f.oid AND d.deptype = 'e')
  LOOP EXECUTE format('DROP FOREIGN DATA WRAPPER %I CASCADE', item.name); END LOOP;
  -- Casts lie in no schema.
  FOR item IN
    SELECT (pg_identify_object('pg_cast'::regclass, c.oid, 0)).identity FROM ${OWN_CASTS}
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  LOOP EXECUTE format('DROP CAST %s CASCADE', item.identity); END LOOP;
  -- In one statement: foreign keys, even in a circle, are looked at when all of these rows are gone.
  FOR item IN ${READABLE_EXTENSION_ROWS_SQL}
  LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s %s)', item.relation, item.condition) INTO has_rows;
    CONTINUE WHEN NOT has_rows;
    IF NOT has_table_privilege(item.oid, 'DELETE') THEN
      RAISE insufficient_privilege USING MESSAGE =
        format('role %I may not delete the rows of %s, a table of extension %I', current_user, item.relation, item.extension);
    END IF;
    deletions := deletions || format('d%s AS (DELETE FROM ONLY %s %s)', cardinality(deletions), item.relation, item.condition);
  END LOOP;
  IF deletions <> '{}' THEN EXECUTE format('WITH %s SELECT', array_to_string(deletions, ', ')); END IF;
  -- Default privileges go back to PostgreSQL's own, or they would be added to what the dump grants.
  FOR item IN
    SELECT r.rolname AS role, n.nspname AS schema, t.objects, t.public_right,
           (SELECT string_agg(DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, ', ')
              FROM aclexplode(d.defaclacl) a) AS grantees
      FROM ${OWN_DEFAULT_PRIVILEGES}
  LOOP
    IF item.grantees IS NOT NULL THEN
      EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I %s REVOKE ALL ON %s FROM %s', item.role,
                     CASE WHEN item.schema IS NULL THEN '' ELSE format('IN SCHEMA %I', item.schema) END, item.objects, item.grantees);
    END IF;
    IF item.schema IS NULL THEN
      EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT ALL ON %s TO %I', item.role, item.objects, item.role);
      IF item.public_right IS NOT NULL THEN
        EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT %s ON %s TO PUBLIC', item.role, item.public_right, item.objects);
      END IF;
    END IF;
  END LOOP;
  PERFORM lo_unlink(oid) FROM pg_largeobject_metadata;
  PERFORM set_config('search_path', search_path_before, true);
END $pgark$;
`;
