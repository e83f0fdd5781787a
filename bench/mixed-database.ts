import type { ClientBase } from 'pg';

/** Bytes of pg_dump's text for one row of either table, as measured; with them the size comes out within some percent. */
const ORDER_ROW_BYTES = 141;
const RANDOM_ROW_BYTES = 589;
/** Of each kind. */
const TABLES = 4;

/**
 * Fills an empty database so that its plain dump has about `dumpBytes`. One half is orders, such as many applications have
 * them: numbers, dates, words that come again; gzip makes a fifth of it. The other half is what hardly compresses
 * although it is text: UUIDs, random bytea in hexadecimal digits, jsonb of random numbers; gzip makes more than a half of it.
 * Each table has a primary key. Returns their names.
 */
export async function createMixedDatabase(connection: ClientBase, dumpBytes: number): Promise<readonly string[]> {
  const tables: string[] = [];
  for (let table = 1; table <= TABLES; table += 1) {
    await connection.query(orders(table, Math.ceil(dumpBytes / TABLES / 2 / ORDER_ROW_BYTES)));
    await connection.query(randomRows(table, Math.ceil(dumpBytes / TABLES / 2 / RANDOM_ROW_BYTES)));
    tables.push(`orders_${table}`, `events_${table}`);
  }
  for (const table of tables) await connection.query(`ALTER TABLE ${table} ADD PRIMARY KEY (id)`);
  return tables;
}

function orders(table: number, rows: number): string {
  return `
CREATE TABLE orders_${table} AS
SELECT i AS id, 1 + (random() * 100000)::int AS customer_id,
       (ARRAY['new', 'paid', 'shipped', 'returned', 'cancelled'])[1 + (random() * 4)::int] AS status,
       timestamptz '2024-01-01' + i * interval '3.7 seconds' AS created_at,
       (random() * 100000)::numeric(12, 2) AS total,
       'user' || (random() * 100000)::int || '@example.com' AS email,
       'Please deliver to the ' || (ARRAY['front door', 'garage', 'neighbour', 'reception'])[1 + (random() * 3)::int]
         || ' before ' || (8 + random() * 10)::int || ' o''clock, order ' || i AS note,
       (random() * 20)::int AS items
FROM generate_series(1, ${rows}) AS i`;
}

function randomRows(table: number, rows: number): string {
  const bytes = Array.from({ length: 10 }, () => 'uuid_send(gen_random_uuid())').join(' || ');
  return `
CREATE TABLE events_${table} AS
SELECT gen_random_uuid() AS id, gen_random_uuid() AS session_id,
       ${bytes} AS payload,
       jsonb_build_object('device', gen_random_uuid(), 'score', random(), 'position', jsonb_build_array(random(), random()),
                          'tags', jsonb_build_array(md5(random()::text), (random() * 1e9)::int)) AS document
FROM generate_series(1, ${rows}) AS i`;
}
