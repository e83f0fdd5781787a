import { MIB } from '../../../src/common/bytes.ts';
import type { Manifest } from '../../../src/repository/manifest.ts';
import { restoreInto } from '../../support/archive-restoring.ts';
import { backUp, outcomesOf } from '../../support/destinations.ts';
import { postgresFacts } from '../../support/facts.ts';
import { createDatabase, openDatabase, type TestDatabase } from '../../support/postgres.ts';
import { databaseNames, futureDatabase } from '../../support/restoring.ts';
import { createBucket } from '../../support/s3.ts';
import { LEASE_TERM_MS } from './place.ts';
import type { Swept } from './sweep.ts';
import { sweptBackup, sweptRestore, type Target, type World } from './operations.ts';
import { openWires, type WireName } from './wires.ts';

type LogicalFormat = 'plain' | 'directory';

/** Of 8 KiB each, of which three quarters are left when they are compressed: more than one part of an upload, or three pieces. */
const ROWS = { plain: 880, directory: 330 } as const;
const PIECE_BYTES = MIB;
export const FEW_ROWS = 20;
const sqlOf = (rows: number): string => `CREATE TABLE data AS SELECT n,
    (SELECT string_agg(encode(sha512((n * 93 + m)::text::bytea), 'base64'), '') FROM generate_series(1, 93) m) AS text
    FROM generate_series(1, ${rows}) n;
  ALTER TABLE data ALTER COLUMN text SET STORAGE EXTERNAL, ADD PRIMARY KEY (n);
  CREATE TABLE changed (at int);
  CREATE SEQUENCE counter START 4711;
  CREATE VIEW seen AS SELECT n FROM data;
  SELECT lo_from_bytea(4711, 'content')`;
const CONTENT = `SELECT (SELECT md5(string_agg(md5(d::text), '' ORDER BY n)) FROM data d) AS data,
  (SELECT count(*)::int FROM changed) AS changed, (SELECT last_value::int FROM counter) AS counter,
  (SELECT count(*)::int FROM seen) AS seen, lo_get(4711)::text AS object`;

async function contentOf(database: TestDatabase): Promise<unknown> {
  return (await database.query(CONTENT))[0];
}

function newDatabase(): Target {
  const database = futureDatabase('swept back');
  return {
    name: database.name,
    args: ['--to-db', database.name],
    async restore(store, port, id) {
      const selector = id === undefined ? { kind: 'latest' as const } : { kind: 'name' as const, name: id };
      await restoreInto(database, store, { port, analyse: false, jobs: 2, selector });
    },
    made: () => databaseNames(database.name),
    content: () => contentOf(database),
    async [Symbol.asyncDispose]() {
      for (const name of await databaseNames(database.name)) await openDatabase(name).drop();
    },
  };
}

/** A database of its own, dumped into a bucket of its own. */
export async function openLogicalWorld(
  format: LogicalFormat,
  wire: WireName,
  rows: number = ROWS[format],
): Promise<World> {
  const stack = new AsyncDisposableStack();
  const database = stack.use(await createDatabase({ name: 'swept', sql: sqlOf(rows) }));
  const bucket = stack.use(await createBucket());
  const wires = stack.use(await openWires(wire, postgresFacts()));
  return {
    bucket,
    wires,
    lease: `shop/${database.name}`,
    database: { source: 'shop', url: database.url, format },
    async backUp(store, port, limits): Promise<Manifest> {
      const outcome = await backUp(database, [{ destination: { name: 'store', store, needsDelete: true } }], {
        port,
        format,
        leaseTermMs: LEASE_TERM_MS,
        nameTemplate: '{database}_{YYYY-MM-DDTHH:MM:SSZ}.sql',
        jobs: 2,
        pieceBytes: PIECE_BYTES,
        ...limits,
      });
      const { error, manifest } = outcomesOf(outcome)['store'] ?? {};
      if (manifest === undefined) throw error ?? new Error('nothing was committed');
      return manifest;
    },
    async change() {
      await database.query('INSERT INTO changed VALUES (1)');
    },
    content: () => contentOf(database),
    target: () => newDatabase(),
    serverPort: postgresFacts().port,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

export function logicalBackup(format: LogicalFormat, wire: WireName): Swept {
  return sweptBackup(`backup ${format}, ${wire}`, () => openLogicalWorld(format, wire));
}

export function logicalRestore(format: LogicalFormat, wire: WireName): Swept {
  return sweptRestore(`restore ${format}, ${wire}`, () => openLogicalWorld(format, wire));
}
