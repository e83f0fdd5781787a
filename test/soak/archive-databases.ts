import { createSampleDatabase } from '../../src/demo/sample-database.ts';
import { matrixSql } from './matrix-database.ts';
import type { MatrixClient, MatrixServer } from './matrix-servers.ts';
import { makeRegressionDatabase, regressionFolderFor } from './regression-database.ts';

/** What databases are made with. */
export interface Workshop {
  readonly regressionFolders: ReadonlyMap<number, string>;
  /** For psql. */
  readonly client: MatrixClient;
  /** For files that go with a database; the server has to be able to read there. */
  readonly scratch: string;
}

/** A database of the matrix of archives. */
export interface ArchiveDatabase {
  readonly name: string;
  /** Whether it can be made on a server of this major version. */
  readonly isFor: (major: number, workshop: Pick<Workshop, 'regressionFolders'>) => boolean;
  readonly make: (server: MatrixServer, database: string, workshop: Workshop) => Promise<void>;
  /** How much of a table makes a piece. */
  readonly pieceBytes: number;
  /**
   * Whether stock tools, too, bring it back with other orders of columns: those of a table that inherits them and had them
   * before. What they bring is what it has to be, then.
   */
  readonly isReordered?: boolean;
}

const TABLES = 5_000;
/** A transaction that makes more needs more locks than a server has by default. */
const TABLES_AT_ONCE = 250;
const LARGE_OBJECTS = 20_000;
const SMALL_PIECE = 32 * 1024;
/** It has a procedure with a body of SQL. */
export const SAMPLE_SINCE = 14;
const always = (): boolean => true;

export const archiveDatabases: readonly ArchiveDatabase[] = [
  {
    name: 'rich',
    isFor: always,
    pieceBytes: SMALL_PIECE,
    make: async (server, database) => {
      await server.query(matrixSql(server.major), database);
      await server.query(CUT_SQL, database);
    },
  },
  {
    name: 'sample',
    isFor: (major) => major >= SAMPLE_SINCE,
    pieceBytes: 1024 * 1024,
    make: (server, database) => server.withClient(database, (client) => createSampleDatabase(client, { scale: 0.5 })),
  },
  {
    name: 'many tables',
    isFor: always,
    pieceBytes: SMALL_PIECE,
    make: async (server, database) => {
      for (let from = 1; from <= TABLES; from += TABLES_AT_ONCE) {
        await server.query(
          `DO $$ BEGIN FOR i IN ${from}..${from + TABLES_AT_ONCE - 1} LOOP
             EXECUTE format('CREATE TABLE "table %s" (id int PRIMARY KEY, text text)', i);
             EXECUTE format('INSERT INTO "table %s" SELECT n, md5(n::text) FROM generate_series(1, %s) n', i, i % 4);
           END LOOP; END $$`,
          database,
        );
      }
    },
  },
  {
    name: 'large objects',
    isFor: always,
    pieceBytes: SMALL_PIECE,
    make: async (server, database) => {
      await server.query(
        `SELECT lo_from_bytea(100000 + i, decode(repeat(md5(i::text), i % 40), 'hex')) FROM generate_series(1, ${LARGE_OBJECTS}) i;
         SELECT lo_from_bytea(99999, decode(repeat('00ff', 3000000), 'hex'))`,
        database,
      );
      // What is left of others, of which no row is seen.
      await server.query(
        `SELECT lo_unlink(100000 + i) FROM generate_series(100, ${LARGE_OBJECTS}, 100) i;
         SELECT lo_put(100000 + i, 0, 'changed') FROM generate_series(7, ${LARGE_OBJECTS}, 1000) i`,
        database,
      );
    },
  },
  {
    name: 'regression',
    isReordered: true,
    isFor: (major, { regressionFolders }) => regressionFolderFor(regressionFolders, major) !== undefined,
    pieceBytes: SMALL_PIECE,
    make: async (server, database, { regressionFolders, client, scratch }) => {
      const folder = regressionFolderFor(regressionFolders, server.major) ?? '';
      await makeRegressionDatabase(server, database, { folder, client, scratch });
    },
  },
];

/** Tables of several pieces, of every kind that a table may be of. */
const CUT_SQL = `
CREATE SCHEMA cut;
CREATE TABLE cut.wide (n int PRIMARY KEY, text text);
INSERT INTO cut.wide SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 8000) n;
DELETE FROM cut.wide WHERE n % 3 = 0;
UPDATE cut.wide SET text = 'changed' WHERE n % 7 = 0;
CREATE TABLE cut.refers (n int REFERENCES cut.wide, m int);
INSERT INTO cut.refers SELECT n, n FROM cut.wide WHERE n % 2 = 0;
CREATE TABLE cut.dropped (a int, b int, c text);
ALTER TABLE cut.dropped DROP COLUMN b;
INSERT INTO cut.dropped SELECT n, E'tab\\t' || n FROM generate_series(1, 8000) n;
CREATE TABLE cut.touchy (a int);
INSERT INTO cut.touchy SELECT generate_series(1, 8000);
CREATE TRIGGER touch BEFORE INSERT ON cut.touchy FOR EACH ROW EXECUTE FUNCTION touched();
CREATE TABLE cut.counted (id int GENERATED ALWAYS AS IDENTITY, double int GENERATED ALWAYS AS (n * 2) STORED, n int);
INSERT INTO cut.counted (n) SELECT generate_series(1, 8000);
CREATE TABLE cut.toasted AS SELECT n, (SELECT string_agg(md5((n * 1000 + m)::text), '') FROM generate_series(1, 400) m) AS text
  FROM generate_series(1, 40) n;
CREATE UNLOGGED TABLE cut.unlogged AS SELECT n FROM generate_series(1, 8000) n;
CREATE TABLE cut.columnless ();
INSERT INTO cut.columnless SELECT FROM generate_series(1, 9000);
CREATE TABLE cut.top (a int, b text, c int) PARTITION BY RANGE (a);
CREATE TABLE cut.low PARTITION OF cut.top FOR VALUES FROM (0) TO (4000) PARTITION BY LIST (b);
CREATE TABLE cut.low_a PARTITION OF cut.low FOR VALUES IN ('a') PARTITION BY HASH (c);
CREATE TABLE cut.low_a_0 PARTITION OF cut.low_a FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE cut.low_a_1 PARTITION OF cut.low_a FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE cut.low_b (c int, b text, a int);
ALTER TABLE cut.low ATTACH PARTITION cut.low_b FOR VALUES IN ('b');
CREATE TABLE cut.high PARTITION OF cut.top DEFAULT;
INSERT INTO cut.top SELECT n, CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END, n FROM generate_series(1, 9000) n;
CREATE INDEX ON cut.top (c);
CREATE TABLE cut.parent (a int, text text);
CREATE TABLE cut.child (more int) INHERITS (cut.parent);
INSERT INTO cut.parent SELECT n, repeat('p', 60) FROM generate_series(1, 4000) n;
INSERT INTO cut.child SELECT n, repeat('c', 60), n FROM generate_series(1, 4000) n;
CREATE TABLE cut.secret AS SELECT n, 'x' || n AS owner FROM generate_series(1, 8000) n;
ALTER TABLE cut.secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON cut.secret USING (owner = current_user);
CREATE MATERIALIZED VIEW cut.summed AS SELECT count(*) FROM cut.wide;
`;
