import { richSql } from '../support/rich-database.ts';

/** Roles that own parts of the database; roles are no part of a dump, so every server has them first. */
export const ROLES_SQL = `
CREATE ROLE matrix_owner; CREATE ROLE "matrix Ö ""reader""" LOGIN; CREATE ROLE matrix_other;
GRANT matrix_owner TO matrix_other;
`;

const READER = '"matrix Ö ""reader"""';

/** The rich database, and whatever else a server of this major version knows. Needs ROLES_SQL and a superuser. */
export function matrixSql(serverMajor: number): string {
  const since = (major: number, sql: string): string => (serverMajor >= major ? sql : '');
  return `CREATE SCHEMA m AUTHORIZATION matrix_owner;
CREATE EXTENSION pgcrypto SCHEMA m;
CREATE EXTENSION btree_gist;
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION file_fdw;
${richSql(serverMajor)}
RESET search_path;

CREATE UNLOGGED TABLE m.unlogged (id int PRIMARY KEY, v text);
INSERT INTO m.unlogged SELECT i, 'v' || i FROM generate_series(1, 10) i;
CREATE TABLE m.hash (id int, v text) PARTITION BY LIST (id);
CREATE TABLE m.hash_1 PARTITION OF m.hash FOR VALUES IN (1);
CREATE TABLE m.hash_2 (v text, id int);
ALTER TABLE m.hash ATTACH PARTITION m.hash_2 FOR VALUES IN (2);
CREATE INDEX ON m.hash (v);
INSERT INTO m.hash VALUES (1, 'one'), (2, 'two');
ALTER TABLE m.hash OWNER TO matrix_owner;
ALTER TABLE m.hash_1 OWNER TO matrix_other;
GRANT SELECT ON m.hash TO ${READER} WITH GRANT OPTION;
GRANT INSERT (v) ON m.hash_2 TO PUBLIC;

CREATE TYPE m.kind AS (a int, b text);
CREATE TABLE m.typed OF m.kind (PRIMARY KEY (a)) WITH (fillfactor = 50, autovacuum_enabled = off);
INSERT INTO m.typed VALUES (1, 'x');
ALTER TABLE m.typed CLUSTER ON typed_pkey;
ALTER TABLE m.typed REPLICA IDENTITY FULL;
ALTER TABLE m.typed ALTER b SET STORAGE EXTERNAL, ALTER b SET STATISTICS 77, ALTER b SET (n_distinct = -0.5);
CREATE INDEX included ON m.typed USING btree (a DESC NULLS LAST) INCLUDE (b) WHERE a > 0;
CREATE INDEX summary ON m.typed USING brin (a) WITH (pages_per_range = 7);
CREATE TABLE m.gapped (gone int, kept int DEFAULT 7, "Late" text);
ALTER TABLE m.gapped DROP COLUMN gone;
INSERT INTO m.gapped VALUES (1, 'a'), (DEFAULT, NULL);
CREATE DOMAIN m.short AS text COLLATE "C" NOT NULL CONSTRAINT "not; long" CHECK (length(VALUE) < 9);
ALTER DOMAIN m.short ADD CONSTRAINT later CHECK (VALUE <> 'x') NOT VALID;
CREATE TABLE m.shorts (s m.short, ss m.short[]);
INSERT INTO m.shorts VALUES ('abc', ARRAY['d', 'e']::m.short[]);
CREATE TABLE m.excluded (during tsrange, room int, EXCLUDE USING gist (room WITH =, during WITH &&) DEFERRABLE);
INSERT INTO m.excluded VALUES ('[2025-01-01, 2025-01-02)', 1), ('[2025-01-01, 2025-01-02)', 2);

CREATE FUNCTION m.fires() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = m, pg_temp AS $$ BEGIN RAISE EXCEPTION 'fired'; END $$;
ALTER FUNCTION m.fires() OWNER TO matrix_owner;
REVOKE ALL ON FUNCTION m.fires() FROM PUBLIC;
CREATE TABLE m.guarded (a int);
INSERT INTO m.guarded VALUES (1);
CREATE TRIGGER off BEFORE INSERT ON m.guarded FOR EACH ROW EXECUTE FUNCTION m.fires();
CREATE TRIGGER replica BEFORE INSERT ON m.guarded FOR EACH ROW EXECUTE FUNCTION m.fires();
CREATE TRIGGER always BEFORE DELETE ON m.guarded FOR EACH ROW EXECUTE FUNCTION m.fires();
CREATE CONSTRAINT TRIGGER checked AFTER UPDATE ON m.guarded DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION m.fires();
CREATE TRIGGER moved AFTER UPDATE ON m.guarded REFERENCING OLD TABLE AS was NEW TABLE AS "is" FOR EACH STATEMENT EXECUTE FUNCTION m.fires();
ALTER TABLE m.guarded DISABLE TRIGGER off, ENABLE REPLICA TRIGGER replica, ENABLE ALWAYS TRIGGER always;
CREATE RULE quiet AS ON DELETE TO m.guarded DO ALSO NOTHING;
ALTER TABLE m.guarded DISABLE RULE quiet;
ALTER EVENT TRIGGER "on DDL" ENABLE ALWAYS;

CREATE TABLE m.secret (owner name DEFAULT current_user, v text);
INSERT INTO m.secret VALUES ('matrix_owner', 'a'), ('nobody', 'b');
ALTER TABLE m.secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON m.secret FOR ALL TO matrix_owner, ${READER} USING (owner = current_user) WITH CHECK (v <> '');
ALTER TABLE m.secret OWNER TO matrix_owner;

CREATE TABLE m.a (id int PRIMARY KEY, b int); CREATE TABLE m.b (id int PRIMARY KEY, c int REFERENCES m.a ON DELETE CASCADE);
CREATE TABLE m.c (id int PRIMARY KEY, a int REFERENCES m.b ON UPDATE SET NULL);
INSERT INTO m.a VALUES (1, 1); INSERT INTO m.b VALUES (1, 1); INSERT INTO m.c VALUES (1, 1);
ALTER TABLE m.a ADD FOREIGN KEY (b) REFERENCES m.c;
CREATE VIEW m.grouped AS SELECT a.id, a.b, count(*) AS n FROM m.a JOIN m.b ON b.c = a.id GROUP BY a.id;
CREATE MATERIALIZED VIEW m.of_view AS SELECT * FROM m.grouped;
CREATE MATERIALIZED VIEW m.of_matview AS SELECT id + 1 AS more FROM m.of_view;
CREATE INDEX ON m.of_matview (more);
REFRESH MATERIALIZED VIEW m.of_matview;
CREATE RECURSIVE VIEW m.counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 3;

CREATE SERVER "remote s" FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nowhere', dbname 'x''y');
CREATE USER MAPPING FOR matrix_owner SERVER "remote s" OPTIONS (user 'u', password 'p''"\\\\');
CREATE FOREIGN TABLE m.remote (i int OPTIONS (column_name 'j'), t text NOT NULL) SERVER "remote s" OPTIONS (table_name 't');
GRANT USAGE ON FOREIGN SERVER "remote s" TO ${READER};
CREATE OPERATOR CLASS m.backwards FOR TYPE int USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int);
CREATE CONVERSION m.conversion FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY m.stem (TEMPLATE = snowball, Language = german);
CREATE COLLATION m.posix (provider = libc, locale = 'POSIX');
CREATE SUBSCRIPTION "sub s" CONNECTION 'host=/nowhere dbname=x' PUBLICATION p WITH (connect = false, slot_name = 'matrix_slot');
CREATE PUBLICATION only_inserts FOR TABLE m.a WITH (publish = 'insert', publish_via_partition_root = true);

SELECT lo_from_bytea(60001, 'of the owner''s');
ALTER LARGE OBJECT 60001 OWNER TO matrix_owner;
GRANT SELECT, UPDATE ON LARGE OBJECT 60001 TO ${READER};
ALTER DEFAULT PRIVILEGES FOR ROLE matrix_owner IN SCHEMA m GRANT SELECT ON TABLES TO ${READER};
ALTER DEFAULT PRIVILEGES FOR ROLE matrix_owner GRANT USAGE ON TYPES TO ${READER};
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA m TO ${READER};
COMMENT ON CONSTRAINT "not; long" ON DOMAIN m.short IS 'why; not';
COMMENT ON TRIGGER off ON m.guarded IS E'multi\\nline';
COMMENT ON POLICY own ON m.secret IS '--';

${since(
  14,
  `CREATE TABLE m.since_14 (v text COMPRESSION pglz, ranges int4multirange DEFAULT '{[1,3),[7,9)}');
INSERT INTO m.since_14 VALUES ('c');
CREATE FUNCTION m.out_of(INOUT a int, OUT b int) LANGUAGE sql BEGIN ATOMIC SELECT a, a + 1; END;
CREATE PROCEDURE m.put(IN x int, OUT y int) LANGUAGE plpgsql AS $$ BEGIN y := x; END $$;
CREATE STATISTICS m.of_expression ON (lower(v)), v FROM m.since_14;`,
)}
${since(
  15,
  `CREATE TABLE m.since_15 (a int UNIQUE NULLS NOT DISTINCT, b int);
INSERT INTO m.since_15 VALUES (NULL, 1), (1, 2);
CREATE VIEW m.invoker WITH (security_invoker) AS SELECT * FROM m.since_15;
CREATE PUBLICATION whole_schema FOR TABLES IN SCHEMA m;
ALTER TABLE m.c ADD CONSTRAINT set_some FOREIGN KEY (a) REFERENCES m.a ON DELETE SET NULL (a);
CREATE COLLATION m.german (provider = icu, locale = 'de-u-co-phonebk');`,
)}
${since(
  16,
  `CREATE COLLATION m.ruled (provider = icu, locale = 'und', rules = '&a < g');
CREATE TABLE m.since_16 (v text STORAGE EXTENDED, big int DEFAULT 1_000 + 0x1f, j text GENERATED ALWAYS AS (CASE WHEN v IS JSON THEN 'yes' END) STORED);
INSERT INTO m.since_16 (v) VALUES ('{}'), ('no');`,
)}
${since(
  17,
  `CREATE COLLATION m.built_in (provider = builtin, locale = 'C.UTF-8');
CREATE TABLE m.since_17 (id int GENERATED ALWAYS AS IDENTITY, at int) PARTITION BY RANGE (at);
CREATE TABLE m.since_17_a PARTITION OF m.since_17 FOR VALUES FROM (0) TO (9);
INSERT INTO m.since_17 (at) VALUES (1), (2);
GRANT MAINTAIN ON m.since_17 TO ${READER};
CREATE EVENT TRIGGER logins ON login EXECUTE FUNCTION noted();
ALTER EVENT TRIGGER logins DISABLE;`,
)}
${since(
  18,
  `CREATE TABLE m.since_18 (a int CONSTRAINT "has an a" NOT NULL, double int GENERATED ALWAYS AS (a * 2) VIRTUAL, during tsrange,
  CONSTRAINT temporal PRIMARY KEY (a, during WITHOUT OVERLAPS), CONSTRAINT unenforced CHECK (a > 100) NOT ENFORCED);
INSERT INTO m.since_18 (a, during) VALUES (1, '[2025-01-01, 2025-02-01)'), (1, '[2025-02-01, 2025-03-01)');
CREATE TABLE m.later_18 (a int); INSERT INTO m.later_18 VALUES (NULL);
ALTER TABLE m.later_18 ADD CONSTRAINT soon NOT NULL a NOT VALID;`,
)}
`;
}
