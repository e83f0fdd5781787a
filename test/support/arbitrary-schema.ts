import fc from 'fast-check';
import { quoteIdentifier, quoteLiteral } from '../../src/postgres/client/connect.ts';

/** A type of columns: values as SQL, and whether a B-tree can sort them. */
interface ColumnType {
  readonly sql: string;
  readonly value: fc.Arbitrary<string>;
  readonly isSortable: boolean;
}

const ODD_NAMES = [
  'a',
  'A b',
  'c"d',
  "e'f",
  'g;h',
  'ü',
  '日本',
  'select',
  '\\.',
  'x,y',
  '(z)',
  '%s',
  '$1',
  'a.b',
  'from stdin;',
];

/** Whatever text PostgreSQL takes: no zero byte, no half of a pair. */
const text = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc.string({ unit: fc.constantFrom('\\', '\n', '\r', '\t', '.', 'N', "'", '"', 'ü', '\u007f'), maxLength: 12 }),
  )
  .map((value) => value.toWellFormed().replaceAll('\0', ''));
/** With a few characters more it has to fit into the 63 bytes that names have. */
const NAME_BYTES_MAX = 50;
const name = fc.oneof(
  fc.constantFrom(...ODD_NAMES),
  fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 6 })
    .map((value) => value.toWellFormed().replaceAll('\0', ''))
    .filter((value) => Buffer.byteLength(value) <= NAME_BYTES_MAX),
);
const literal = (values: fc.Arbitrary<string>, type: string): fc.Arbitrary<string> =>
  values.map((value) => `${quoteLiteral(value)}::${type}`);
const oneOf = (type: string, ...values: readonly string[]): fc.Arbitrary<string> =>
  literal(fc.constantFrom(...values), type);
const integer = fc.integer().map((value) => `(${value})::int`);

/** Names of the schema's own types, which every schema has. */
const MOOD = '"mo od"';
const PAIR = '"pa;ir"';
const SHORT = 'short';
const TYPES_SQL = `CREATE TYPE ${MOOD} AS ENUM ('so', 'it''s', '\\', 'ü,"');
CREATE TYPE ${PAIR} AS (a int, "b c" text);
CREATE DOMAIN ${SHORT} AS text CHECK (length(VALUE) < 90);`;

const TYPES: readonly ColumnType[] = [
  { sql: 'int', value: integer, isSortable: true },
  {
    sql: 'bigint',
    value: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map((value) => `'${value}'::bigint`),
    isSortable: true,
  },
  {
    sql: 'numeric',
    value: oneOf('numeric', '0', '-0.000', '1e100', '1e-100', 'NaN', '12345.678900'),
    isSortable: true,
  },
  { sql: 'real', value: fc.float({ noNaN: true }).map((value) => `'${value}'::real`), isSortable: true },
  { sql: 'float8', value: fc.double().map((value) => `'${value}'::float8`), isSortable: true },
  { sql: 'boolean', value: fc.boolean().map(String), isSortable: true },
  { sql: 'text', value: literal(text, 'text'), isSortable: true },
  { sql: 'varchar(40)', value: literal(text, 'varchar(40)'), isSortable: true },
  { sql: 'char(5)', value: literal(text, 'char(5)'), isSortable: true },
  { sql: 'text COLLATE "C"', value: literal(text, 'text'), isSortable: true },
  {
    sql: 'bytea',
    value: fc.uint8Array({ maxLength: 40 }).map((bytes) => `decode('${Buffer.from(bytes).toString('hex')}', 'hex')`),
    isSortable: true,
  },
  { sql: 'date', value: oneOf('date', 'infinity', '-infinity', '4713-01-01 BC', '2024-02-29'), isSortable: true },
  { sql: 'timestamp(3)', value: oneOf('timestamp', '294276-12-31 23:59:59.999', 'epoch'), isSortable: true },
  {
    sql: 'timestamptz',
    value: oneOf('timestamptz', '2025-03-30 02:30:00+01', '0044-03-15 12:00:00 BC'),
    isSortable: true,
  },
  { sql: 'interval', value: oneOf('interval', '-1 mon +2 days -00:00:01.5', '178000000 years'), isSortable: true },
  { sql: 'uuid', value: fc.uuid().map((value) => `'${value}'::uuid`), isSortable: true },
  { sql: 'json', value: literal(fc.json(), 'json'), isSortable: false },
  { sql: 'jsonb', value: oneOf('jsonb', '{"a": [1, null, "\\\\"]}', '"\\n"', 'null', '{}'), isSortable: true },
  { sql: 'int[]', value: oneOf('int[]', '{}', '{1,NULL,-3}', '[-1:0]={7,8}', '{{1,2},{3,4}}'), isSortable: true },
  {
    sql: 'text[]',
    value: fc.array(literal(text, 'text'), { maxLength: 3 }).map((all) => `ARRAY[${all.join(', ')}]::text[]`),
    isSortable: true,
  },
  { sql: 'inet', value: oneOf('inet', '::1/64', '10.0.0.1'), isSortable: true },
  { sql: 'point', value: oneOf('point', '(1,-2.5)', '(1e300,0)'), isSortable: false },
  { sql: 'tsvector', value: oneOf('tsvector', `'it''s':1A 'b\\\\':2`, ''), isSortable: true },
  { sql: 'int4range', value: oneOf('int4range', 'empty', '[1,5)', '(,)'), isSortable: true },
  { sql: 'bit varying', value: oneOf('varbit', '', '10101'), isSortable: true },
  { sql: 'xml', value: oneOf('xml', '<a b="c">&amp;</a>', 'no document'), isSortable: false },
  { sql: MOOD, value: oneOf(MOOD, 'so', `it's`, '\\', 'ü,"'), isSortable: true },
  {
    sql: PAIR,
    value: fc.tuple(integer, literal(text, 'text')).map(([a, b]) => `ROW(${a}, ${b})::${PAIR}`),
    isSortable: true,
  },
  { sql: SHORT, value: literal(text, SHORT), isSortable: true },
];

interface Column {
  readonly name: string;
  readonly type: ColumnType;
  readonly values: readonly string[];
  readonly isNotNull: boolean;
  readonly hasDefault: boolean;
  readonly isDropped: boolean;
  readonly hasIndex: boolean;
}

const column: fc.Arbitrary<Column> = fc.constantFrom(...TYPES).chain((type) =>
  fc.record({
    name,
    type: fc.constant(type),
    values: fc.array(type.value, { minLength: 1, maxLength: 4 }),
    isNotNull: fc.boolean(),
    hasDefault: fc.boolean(),
    isDropped: fc.constantFrom(true, false, false),
    hasIndex: fc.boolean(),
  }),
);

interface NamedColumn extends Column {
  /** Its name, quoted. */
  readonly sql: string;
}

const KINDS = ['plain', 'plain', 'unlogged', 'hash', 'list', 'range', 'parent', 'keyed', 'touchy'] as const;

const table = fc.record({
  name,
  kind: fc.constantFrom(...KINDS),
  columns: fc.array(column, { maxLength: 6 }),
  identity: fc.constantFrom('none', 'ALWAYS', 'BY DEFAULT'),
  isComputed: fc.boolean(),
  /** Rows that are put in, of which some are deleted. */
  rows: fc.constantFrom(0, 1, 7, 300, 2500),
  gap: fc.constantFrom(0, 2, 5),
  hasView: fc.boolean(),
  comment: fc.option(text),
});
type Table = typeof table extends fc.Arbitrary<infer T> ? T : never;

/** Statements that make the nth schema of a database, with tables of all kinds, and rows of all types. */
export function schemaSql(nth: number): fc.Arbitrary<string> {
  return fc.tuple(name, fc.array(table, { minLength: 1, maxLength: 5 })).map(([schema, tables]) => {
    const own = quoteIdentifier(`${schema} ${nth}`);
    return [
      `CREATE SCHEMA ${own}; SET search_path = ${own}; ${TYPES_SQL}
       CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;`,
      ...tables.map((each, index) => tableSql(each, index, tables)),
    ].join('\n');
  });
}

function tableSql(spec: Table, index: number, tables: readonly Table[]): string {
  const { kind, identity, isComputed, hasView, comment } = spec;
  const own = nameOf(spec, index);
  const columns = spec.columns.map((each, at) => ({ ...each, sql: quoteIdentifier(`${each.name}${at}`) }));
  const kept = columns.filter(({ isDropped }) => !isDropped);
  const isDivided = kind === 'hash' || kind === 'list' || kind === 'range';
  const definitions = [
    'key int',
    ...columns.map(({ sql, type, isNotNull, hasDefault, values }) =>
      [sql, type.sql, hasDefault ? `DEFAULT ${values[0]}` : '', isNotNull ? 'NOT NULL' : ''].join(' '),
    ),
    ...(isComputed ? ['computed int GENERATED ALWAYS AS (key % 7) STORED'] : []),
    ...(identity === 'none' || isDivided || kind === 'parent'
      ? []
      : [`id bigint GENERATED ${identity} AS IDENTITY (START WITH 5 INCREMENT BY 3)`]),
    ...(kind === 'keyed' ? ['PRIMARY KEY (key)'] : []),
  ];
  const statements = [
    `CREATE ${kind === 'unlogged' ? 'UNLOGGED ' : ''}TABLE ${own} (${definitions.join(', ')})${isDivided ? ` PARTITION BY ${kind} (key)` : ''}`,
    ...partitionsSql(kind, own, index),
    ...columns.flatMap(({ sql, isDropped }) => (isDropped ? [`ALTER TABLE ${own} DROP COLUMN ${sql}`] : [])),
    rowsSql(own, kept, spec),
    ...kept.flatMap(({ sql, type, hasIndex }) =>
      hasIndex && type.isSortable ? [`CREATE INDEX ON ${own} (${sql}) WHERE key > 3`] : [],
    ),
    ...(hasView ? [`CREATE MATERIALIZED VIEW "view of ${index}" AS SELECT count(*), max(key) FROM ${own}`] : []),
    ...(comment === null ? [] : [`COMMENT ON TABLE ${own} IS ${quoteLiteral(comment)}`]),
    ...relationsSql(spec, kept, index, tables),
  ];
  return `${statements.join(';\n')};`;
}

function nameOf(spec: Table, index: number): string {
  return quoteIdentifier(`${spec.name} ${index}`);
}

function partitionsSql(kind: Table['kind'], own: string, index: number): readonly string[] {
  const part = (suffix: string, bounds: string): string =>
    `CREATE TABLE "part ${index} ${suffix}" PARTITION OF ${own} ${bounds}`;
  switch (kind) {
    case 'hash':
      return [0, 1].map((at) => part(String(at), `FOR VALUES WITH (MODULUS 2, REMAINDER ${at})`));
    case 'list':
      return [part('few', 'FOR VALUES IN (1, 2, 3)'), part('rest', 'DEFAULT')];
    case 'range':
      return [
        `${part('low', 'FOR VALUES FROM (MINVALUE) TO (1000)')} PARTITION BY HASH (key)`,
        `CREATE TABLE "part ${index} low 0" PARTITION OF "part ${index} low" FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
        part('high', 'FOR VALUES FROM (1000) TO (MAXVALUE)'),
      ];
    default:
      return [];
  }
}

/** Values in turn, and NULL where it may be; then gaps, and rows that have moved. */
function rowsSql(
  own: string,
  columns: readonly NamedColumn[],
  { rows, gap }: { readonly rows: number; readonly gap: number },
): string {
  const pick = ({ values, isNotNull }: Column): string => {
    const choices = isNotNull ? values : [...values, 'NULL'];
    return `CASE n % ${choices.length} ${choices.map((value, at) => `WHEN ${at} THEN ${value}`).join(' ')} END`;
  };
  const names = ['key', ...columns.map(({ sql }) => sql)].join(', ');
  const insert = `INSERT INTO ${own} (${names}) SELECT ${['n', ...columns.map(pick)].join(', ')} FROM generate_series(1, ${rows}) n`;
  const changes =
    gap === 0 ? '' : `; DELETE FROM ${own} WHERE key % ${gap} = 0; UPDATE ${own} SET key = key WHERE key % 11 = 0`;
  return insert + changes;
}

/** What needs another table, or the rows. */
function relationsSql(
  spec: Table,
  columns: readonly NamedColumn[],
  index: number,
  tables: readonly Table[],
): readonly string[] {
  const { kind, rows, gap } = spec;
  const own = nameOf(spec, index);
  const statements: string[] = [];
  if (kind === 'touchy') {
    statements.push(`CREATE TRIGGER "touch it" BEFORE INSERT ON ${own} FOR EACH ROW EXECUTE FUNCTION touched()`);
  }
  if (kind === 'parent') {
    statements.push(
      `CREATE TABLE "child of ${index}" (more text DEFAULT 'x') INHERITS (${own})`,
      rowsSql(`"child of ${index}"`, columns, { rows: Math.min(rows, 100), gap }),
    );
  }
  const keyed = tables.slice(0, index).findIndex((each) => each.kind === 'keyed');
  const target = tables[keyed];
  if (target !== undefined && kind === 'plain') {
    statements.push(`ALTER TABLE ${own} ADD FOREIGN KEY (key) REFERENCES ${nameOf(target, keyed)} NOT VALID`);
  }
  // pg_restore --jobs by itself gives such a constraint to the tables below before they have their rows.
  if (rows > 0 && !['parent', 'hash', 'list', 'range'].includes(kind)) {
    statements.push(`ALTER TABLE ${own} ADD CONSTRAINT "un;proven" CHECK (key < 0) NOT VALID`);
  }
  return statements;
}
