import { afterAll, beforeAll, describe, expect, test, type TestContext } from 'vitest';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import type { RestoreRequest } from '../../src/operations/restore.ts';
import { filePlace, linesOf, restoreInto } from '../support/archive-restoring.ts';
import { makeConfigExtension } from '../support/config-extension.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { databaseNames, futureDatabase } from '../support/restoring.ts';
import { makeStockArchive } from '../support/stock-archive.ts';

type Selection = NonNullable<RestoreRequest['selection']>;

const SQL = `CREATE SCHEMA shop; CREATE SCHEMA crm;
  CREATE TYPE crm.mood AS ENUM ('sad', 'ok');
  CREATE TABLE crm.person (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mood crm.mood);
  INSERT INTO crm.person (mood) SELECT 'ok' FROM generate_series(1, 10);
  CREATE TABLE shop.orders (id serial PRIMARY KEY, person_id int REFERENCES crm.person, total numeric CHECK (total > 0));
  INSERT INTO shop.orders (person_id, total) SELECT i, i FROM generate_series(1, 10) i;
  CREATE INDEX ON shop.orders (total);
  CREATE TABLE shop.log (at timestamptz, what text) PARTITION BY RANGE (at);
  CREATE TABLE shop.log_25 PARTITION OF shop.log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
  CREATE TABLE shop.log_rest PARTITION OF shop.log DEFAULT;
  INSERT INTO shop.log VALUES ('2025-05-05', 'then'), ('2026-06-06', 'now');
  ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY;
  CREATE POLICY cheap ON shop.orders USING (total < 5 OR EXISTS (SELECT FROM shop.orders o WHERE o.id = 1));
  CREATE VIEW shop.totals AS SELECT p.mood, sum(o.total) FROM shop.orders o JOIN crm.person p ON p.id = o.person_id GROUP BY 1;
  CREATE MATERIALIZED VIEW shop.kept_totals AS SELECT * FROM shop.totals;
  CREATE FUNCTION shop.all_orders() RETURNS SETOF shop.orders LANGUAGE sql BEGIN ATOMIC SELECT * FROM shop.orders; END;`;

let place: Awaited<ReturnType<typeof filePlace>>;
let source: TestDatabase;
beforeAll(async () => {
  place = await filePlace();
  source = await createDatabase({ name: 'src', sql: SQL });
  await makeStockArchive(source, place.store);
});
afterAll(async () => {
  await source?.drop();
  await place?.[Symbol.asyncDispose]();
});

async function restoreOnly(
  database: TestDatabase,
  selection: Partial<Selection>,
  store = place.store,
): Promise<{
  readonly plan: readonly string[];
  readonly leftOut: readonly unknown[];
  readonly gaps: Readonly<Record<string, unknown>>;
}> {
  const leftOut: unknown[] = [];
  const gaps: Record<string, unknown> = {};
  const logger: Logger = {
    ...silentLogger,
    warning: (event, _message, fields) => {
      if (event === 'restore.left_out') leftOut.push(fields?.objects);
      else gaps[event] = fields?.objects;
    },
    child: () => logger,
  };
  const whole = { tables: [], schemas: [], sections: [] };
  const { plan } = await restoreInto(database, store, {
    selection: { ...whole, ...selection },
    context: { logger },
  });
  return { plan, leftOut, gaps };
}

const RELATIONS_SQL = `SELECT oid::regclass::text AS name FROM pg_class
  WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace::regnamespace::text IN ('shop', 'crm', 'people') ORDER BY 1`;

async function relationsOf(database: TestDatabase): Promise<readonly string[]> {
  return (await database.query<{ name: string }>(RELATIONS_SQL)).map(({ name }) => name);
}

describe('a restore without a part', () => {
  test('has no table that was left out, nor what cannot be without it, of which it says so', async () => {
    await using restored = futureDatabase();
    const excluding = { tables: ['shop.log'], schemas: ['crm'], tableData: [] };
    const { leftOut } = await restoreOnly(restored, { excluding });
    expect(leftOut).toEqual([
      ['VIEW shop.totals', 'MATERIALIZED VIEW shop.kept_totals', 'FK CONSTRAINT shop.orders orders_person_id_fkey'],
    ]);
    expect(await relationsOf(restored)).toEqual(['shop.orders']);
    for (const sql of [
      'SELECT * FROM shop.all_orders() ORDER BY 1',
      `SELECT indexdef FROM pg_indexes WHERE schemaname = 'shop'`,
    ]) {
      expect(await restored.query(sql)).toEqual(await source.query(sql));
    }
  });

  test('has tables without their rows, and all that is said of them', async () => {
    await using restored = futureDatabase();
    const excluding = { tables: [], schemas: [], tableData: ['orders', 'log'] };
    expect(await restoreOnly(restored, { excluding })).toMatchObject({ leftOut: [] });
    expect(await relationsOf(restored)).toEqual(await relationsOf(source));
    const counts =
      'SELECT (SELECT count(*)::int FROM crm.person) AS p, (SELECT count(*)::int FROM shop.orders) AS o, (SELECT count(*)::int FROM shop.log) AS l';
    expect(await restored.query(counts)).toEqual([{ p: 10, o: 0, l: 0 }]);
    // The next order gets the number that it would have got.
    expect(await restored.query(`SELECT nextval('shop.orders_id_seq')::int AS n`)).toEqual([{ n: 11 }]);
  });

  test('is refused where a table would be incomplete, before anything is made', async () => {
    const restored = futureDatabase('never');
    const excluding = { tables: ['orders_id_seq'], schemas: [], tableData: [] };
    await expect(restoreOnly(restored, { excluding })).rejects.toMatchObject({
      code: 'restore-failed',
      message: expect.stringContaining('DEFAULT shop.orders id needs SEQUENCE shop.orders_id_seq'),
    });
    expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
  });
});

test('a restore of a part says which tables came empty, and which foreign keys not at all', async () => {
  await using restored = futureDatabase();
  const { gaps } = await restoreOnly(restored, { schemas: ['shop'] });
  expect(gaps).toEqual({
    'restore.without_rows': ['crm.person'],
    'restore.left_behind': ['FK CONSTRAINT shop.orders orders_person_id_fkey'],
  });
  const counts =
    'SELECT (SELECT count(*)::int FROM crm.person) AS p, (SELECT count(*)::int FROM shop.kept_totals) AS k';
  expect(await restored.query(counts)).toEqual([{ p: 0, k: 0 }]);
});

test('a view that another one reads is what it was, not what pg_dump writes in its place before its query can be', async () => {
  await using other = await filePlace();
  await using views = await createDatabase({
    name: 'src',
    sql: `CREATE SCHEMA rep; CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1), (2, 2);
      CREATE VIEW totals AS SELECT id, a, count(*) AS n FROM t GROUP BY id;
      CREATE VIEW rep.big AS SELECT * FROM totals WHERE a > 1;
      CREATE MATERIALIZED VIEW rep.kept AS SELECT * FROM rep.big`,
  });
  await makeStockArchive(views, other.store);
  const definition = `SELECT pg_get_viewdef('totals'::regclass) AS query`;
  for (const chosen of [{ tables: ['rep.big'] }, { tables: ['rep.kept'] }, { schemas: ['rep'] }]) {
    await using restored = futureDatabase();
    await restoreInto(restored, other.store, {
      selection: { tables: [], schemas: [], sections: [], ...chosen },
    });
    expect(await restored.query(definition)).toEqual(await views.query(definition));
    // Nobody asked for the rows of the table.
    expect(await restored.query('SELECT * FROM rep.big')).toEqual([]);
  }
});

describe('a part of a database with extensions', () => {
  const SEQUENCE = `CREATE SEQUENCE parent_ids; SELECT pg_extension_config_dump('parent_ids', '')`;

  async function restorePart(
    context: TestContext,
    selection: Partial<Selection>,
    look: (restored: TestDatabase) => Promise<void>,
  ): Promise<Readonly<Record<string, unknown>>> {
    await using extension = await makeConfigExtension(context, SEQUENCE);
    await using other = await filePlace();
    await using extended = await createDatabase({
      name: 'src',
      sql: `CREATE EXTENSION ${extension.name}; CREATE SCHEMA apart; CREATE EXTENSION pg_trgm SCHEMA apart;
        CREATE TABLE t AS SELECT 1 AS a; CREATE TABLE apart.u AS SELECT 1 AS a;
        INSERT INTO parent VALUES (1, 'one'); SELECT setval('parent_ids', 77);
        REVOKE ALL ON FUNCTION apart.similarity(text, text) FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC`,
    });
    await makeStockArchive(extended, other.store);
    await using restored = futureDatabase();
    const { gaps } = await restoreOnly(restored, selection, other.store);
    await look(restored);
    return gaps;
  }

  const EXTENSIONS = `SELECT count(*)::int AS n FROM pg_extension WHERE extname <> 'plpgsql'`;

  test('has no rights to, and no sequences of, extensions that it has not', async (context) => {
    const gaps = await restorePart(context, { tables: ['t'] }, async (restored) => {
      expect(await restored.query('SELECT a FROM t')).toEqual([{ a: 1 }]);
      expect(await restored.query(EXTENSIONS)).toEqual([{ n: 0 }]);
      // What every database has is as it was.
      const isEverybodys = `SELECT EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'public' AND grantee = 0) AS may`;
      expect(await restored.query(isEverybodys)).toEqual([{ may: false }]);
    });
    expect(gaps).toEqual({});
  });

  test('says what rights in a chosen schema it lacks for that', async (context) => {
    const gaps = await restorePart(context, { schemas: ['apart'] }, async (restored) => {
      expect(await restored.query('SELECT a FROM apart.u')).toEqual([{ a: 1 }]);
    });
    expect(gaps).toEqual({ 'restore.left_behind': ['ACL apart.FUNCTION similarity(text, text)'] });
  });

  test('has the extension whose tables hold rows in a chosen schema, with all of that', async (context) => {
    const gaps = await restorePart(context, { schemas: ['public'] }, async (restored) => {
      expect(await restored.query('SELECT label FROM parent WHERE id > 0')).toEqual([{ label: 'one' }]);
      expect(await restored.query(`SELECT nextval('parent_ids')::int AS n`)).toEqual([{ n: 78 }]);
      expect(await restored.query(EXTENSIONS)).toEqual([{ n: 1 }]);
    });
    expect(gaps).toEqual({});
  });

  test('says what rights it lacks to what an extension has made that comes along with a table', async () => {
    await using other = await filePlace();
    await using extended = await createDatabase({
      name: 'src',
      sql: `CREATE EXTENSION dblink; CREATE EXTENSION hstore; REVOKE ALL ON FUNCTION dblink(text) FROM PUBLIC;
        CREATE VIEW v AS SELECT a FROM dblink('dbname=postgres', 'SELECT 1') AS t (a int)`,
    });
    await makeStockArchive(extended, other.store);
    await using restored = futureDatabase();
    const { gaps } = await restoreOnly(restored, { tables: ['v'] }, other.store);
    expect(await restored.query(EXTENSIONS)).toEqual([{ n: 1 }]);
    expect(gaps).toEqual({ 'restore.left_behind': ['ACL public.FUNCTION dblink(text)'] });
  });
});

describe('a restore under other names', () => {
  test('has the same tables by them, and whatever depends on these goes with them', async () => {
    await using restored = futureDatabase();
    const renames = [
      { from: 'shop.orders', to: 'shop.orders old' },
      { from: 'crm', to: 'people' },
    ];
    const { plan } = await restoreOnly(restored, { renames });
    expect(plan.join('\n')).toContain('renamed shop.orders to shop.orders old, crm to people');
    // Named back, it is what it was.
    await restored.query('ALTER TABLE shop."orders old" RENAME TO orders; ALTER SCHEMA people RENAME TO crm');
    expect(await linesOf(restored)).toEqual(await linesOf(source));
  });

  test('is refused where a function names the table, before anything is made', async () => {
    await using other = await filePlace();
    await using named = await createDatabase({
      name: 'src',
      sql: `CREATE TABLE t (a int); CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.t'`,
    });
    await makeStockArchive(named, other.store);
    const restored = futureDatabase('never');
    const selection = { tables: [], schemas: [], sections: [], renames: [{ from: 'public.t', to: 'u' }] };
    await expect(restoreInto(restored, other.store, { selection })).rejects.toMatchObject({
      code: 'restore-failed',
      message: expect.stringContaining('as text: FUNCTION public.f()'),
    });
    await using alone = futureDatabase();
    await restoreInto(alone, other.store, { selection: { ...selection, tables: ['t'] } });
    expect(await alone.query(`SELECT relname FROM pg_class WHERE oid = 'public.u'::regclass`)).toHaveLength(1);
    expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
  });
});
