import type { ClientBase } from 'pg';
import { sampleStructure, sampleStructureAfterLoad } from './sample-structure.ts';

export interface SampleOptions {
  /** Share of the full size of about 1 million rows; 1 by default. */
  readonly scale?: number;
  /** Called before each step with what it does, such as `200,000 orders`. */
  readonly onStep?: (what: string) => void;
  readonly signal?: AbortSignal;
}

/** Rows of the tables at full size. */
const CUSTOMERS = 120_000;
const PRODUCTS = 20_000;
const ORDERS = 200_000;
const ITEMS_PER_ORDER = 2;
const EVENTS = 260_000;
const LARGE_OBJECTS = 12;
/** Rows hold the objects' numbers, so these are fixed. */
const LARGE_OBJECT_FIRST_ID = 700_000;

/**
 * Fills an empty database with a small company's data: several schemas, identities, generated columns, jsonb, arrays,
 * partitions, large objects, sequences, views, functions, triggers, and what names and values get wrong. Every run makes
 * the very same rows. It goes statement by statement, each its own transaction.
 */
export async function createSampleDatabase(connection: ClientBase, options: SampleOptions = {}): Promise<void> {
  const count = (full: number) => Math.max(1, Math.round(full * (options.scale ?? 1)));
  const steps: [what: string, sql: string][] = [
    ['schemas, types and tables', sampleStructure],
    [`${number(count(CUSTOMERS))} customers`, customers(count(CUSTOMERS))],
    [`${number(count(PRODUCTS))} products`, products(count(PRODUCTS))],
    [`${number(count(ORDERS))} orders in partitions`, orders(count(ORDERS), count(CUSTOMERS))],
    [`${number(count(ORDERS) * ITEMS_PER_ORDER)} order items`, items(count(ORDERS), count(PRODUCTS))],
    [`${number(count(EVENTS))} events`, events(count(EVENTS))],
    ['awkward values', awkwardValues],
    [`${LARGE_OBJECTS} large objects`, largeObjects()],
    ['indexes, foreign keys, views, functions and triggers', sampleStructureAfterLoad],
  ];
  for (const [what, sql] of steps) {
    options.signal?.throwIfAborted();
    options.onStep?.(what);
    await connection.query(sql);
  }
}

function number(value: number): string {
  return value.toLocaleString('en-US');
}

/** A number from 0 to `below` - 1 that looks random and is the same every time. */
function pick(below: number, salt: string, from = 'i'): string {
  return `(hashtextextended(${from}::text, ${salt.length * 7919}) & 2147483647) % ${below}`;
}

function customers(total: number): string {
  const names = `ARRAY['Ada','Björn','Chloé','Dmitri','Eun-ji','Fatima','Gökçe','Håkan','Ines','日本','O''Brien','Zoë']`;
  return `
INSERT INTO crm.customer (email, first_name, last_name, tier, tags, profile, place, created_at)
SELECT 'user' || i || '@example.' || (ARRAY['com', 'org', 'net'])[1 + ${pick(3, 'a')}],
       (${names})[1 + ${pick(12, 'ab')}],
       CASE WHEN i % 17 = 0 THEN NULL ELSE initcap(left(md5(i::text), 3 + (${pick(9, 'abc')})::int)) END,
       (ARRAY['basic', 'plus', 'Prémium']::crm.tier[])[1 + ${pick(3, 'abcd')}],
       CASE WHEN i % 5 = 0 THEN '{}' ELSE ARRAY['t' || i % 40, 'a, "quoted" tag', NULL] END,
       jsonb_build_object('newsletter', i % 3 = 0, 'visits', ${pick(900, 'abcde')},
                          'devices', jsonb_build_array(md5(i::text), i % 7), 'note', nullif(i % 11, 0)),
       ROW(md5((i * 3)::text), lpad((i % 100000)::text, 5, '0'))::crm.place,
       timestamptz '2020-01-01 00:00:00+00' + i * interval '17 minutes 3.123456 seconds'
FROM generate_series(1, ${total}) AS i`;
}

function products(total: number): string {
  return `
INSERT INTO stock.category (name, parent_id)
SELECT 'Category ' || i, CASE WHEN i > 9 THEN 1 + i % 9 END FROM generate_series(1, 90) AS i;
INSERT INTO stock.product (sku, name, category_id, price, weight_kg, size_cm, attributes, thumbnail, available)
SELECT 'SKU-' || lpad(i::text, 7, '0'), 'Product ' || md5(i::text) || CASE WHEN i % 9 = 0 THEN ' – größer' ELSE '' END,
       1 + i % 90, round((1 + ${pick(500_000, 'p')}) / 100.0, 2), (${pick(10_000, 'pr')}) / 7.0::float8,
       ARRAY[[i % 50, i % 30], [i % 20, 1]],
       jsonb_build_object('colour', (ARRAY['red', 'green', 'blue'])[1 + i % 3], 'sizes', jsonb_build_array(i % 5, i % 9)),
       CASE WHEN i % 4 = 0 THEN decode(repeat(md5(i::text), 8), 'hex') END,
       CASE WHEN i % 6 = 0 THEN NULL ELSE daterange('2024-01-01'::date + i % 300, '2024-01-01'::date + i % 300 + 90) END
FROM generate_series(1, ${total}) AS i;
SELECT setval('stock.barcode_seq', ${total * 10 + 40_000})`;
}

function orders(total: number, customerCount: number): string {
  return `
INSERT INTO sales."order" (ordered_at, customer_id, state, shipping, note)
SELECT timestamptz '2024-01-01 00:00:00+00' + (i::float8 / ${total} * 500) * interval '1 day',
       1 + ${pick(customerCount, 'o')},
       (ARRAY['new', 'paid', 'sent', 'sent back']::sales.order_state[])[1 + ${pick(4, 'or')}],
       CASE WHEN i % 3 = 0 THEN ('10.' || i % 250 || '.' || i % 240 || '.1')::inet END,
       CASE WHEN i % 13 = 0 THEN E'call before\\tdelivery\\nline ' || i END
FROM generate_series(1, ${total}) AS i`;
}

function items(orderCount: number, productCount: number): string {
  return `
INSERT INTO sales.order_item (order_id, ordered_at, position, product_id, quantity, unit_price)
SELECT o.id, o.ordered_at, p, 1 + ${pick(productCount, 'i', '(o.id * 31 + p)')}, 1 + ${pick(9, 'it', '(o.id * 7 + p)')},
       round((100 + ${pick(90_000, 'ite', '(o.id * 3 + p)')}) / 100.0, 2)
FROM sales."order" AS o CROSS JOIN generate_series(1, ${ITEMS_PER_ORDER}) AS p
WHERE o.id <= ${orderCount}`;
}

function events(total: number): string {
  return `
INSERT INTO "Audit Log"."Event, raw" ("Größe (cm)", "select", "say ""when""", "uuid", took, bits)
SELECT i % 251, md5(i::text), timestamp '2024-01-01' + i * interval '97 seconds', md5('u' || i)::uuid,
       make_interval(secs => i % 86400), (i % 256)::int::bit(8)
FROM generate_series(1, ${total}) AS i`;
}

/** What dumps have got wrong: text that looks like COPY's own marks, NULL beside empty, numbers that are none. */
const awkwardValues = `
INSERT INTO "Audit Log".awkward (t, n, f, ts, j, a, b) VALUES
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  ('', 0, '-0', '-infinity', 'null', '{}', ''),
  (E'\\\\.', 'NaN', 'NaN', 'infinity', '""', '{NULL,"NULL",""}', '\\x00'),
  (E'\\\\N', '1e100', 'Infinity', '0044-03-15 12:00:00 BC', '{"a": {"b": [1, 2.50, null]}}', '{"{","}",","}', '\\xff00ff'),
  (E'tab\\tnewline\\nreturn\\rbackslash\\\\', '-0.000000000000000000001', 1e-320, '2024-02-29 23:59:59.999999', '[]',
   E'{"a\\\\\\\\b","\\\\"q\\\\""}', decode(repeat('00ff', 4000), 'hex')),
  ('quote '' double " dollar $$ $tag$ semicolon; -- comment /* */ Ünïcödé 日本語 🐘', 42, 0.1, '2024-06-01', '{"k\\u00fc": "🐘"}',
   '{日本語}', '\\xdeadbeef'),
  (repeat('a long line ', 20000), 1, 1, '9999-12-31 23:59:59', '1', '{}', '\\x')`;

function largeObjects(): string {
  return `
INSERT INTO crm.document (customer_id, title, content)
SELECT 1, 'Contract ' || i, lo_from_bytea(${LARGE_OBJECT_FIRST_ID} + i, decode(repeat(md5('lo' || i), 500 * i * i), 'hex'))
FROM generate_series(0, ${LARGE_OBJECTS - 1}) AS i;
SELECT lo_put(content, 10000000, '\\x656e64') FROM crm.document WHERE title = 'Contract 3'`;
}
