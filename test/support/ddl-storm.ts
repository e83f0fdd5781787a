import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from 'pg';

/** Rows that every table of a storm has, whenever anybody looks. */
const STORM_ROWS = 300;
/** The two tables that take each other's name when their schemas do. */
const LIVE_ROWS = 100;
const STAGED_ROWS = 200;

const rows = (count: number): string => `SELECT n, repeat(md5(n::text), 8) AS text FROM generate_series(1, ${count}) n`;
const ORDINARY = [
  'emptied',
  'retyped',
  'widened',
  'vacuumed',
  'replaced',
  'swapped_a',
  'swapped_b',
  'indexed',
  'quiet',
];

export const STORM_SQL = `
${ORDINARY.map((table) => `CREATE TABLE ${table} AS ${rows(STORM_ROWS)};`).join('\n')}
CREATE TABLE parted (n int, text text) PARTITION BY LIST (n);
CREATE TABLE parted_one PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
INSERT INTO parted_one SELECT 1, text FROM quiet; INSERT INTO parted_rest SELECT 2, text FROM quiet;
CREATE SCHEMA live; CREATE SCHEMA staged;
CREATE TABLE live.t AS ${rows(LIVE_ROWS)};
CREATE TABLE staged.t AS ${rows(STAGED_ROWS)};
`;

/** What a migration does, by a client of its own each, over and over. Each list is one client's. */
const WORKS: readonly (readonly string[])[] = [
  [`BEGIN; TRUNCATE emptied; INSERT INTO emptied ${rows(STORM_ROWS)}; COMMIT`],
  ['ALTER TABLE retyped ALTER n TYPE bigint', 'ALTER TABLE retyped ALTER n TYPE int'],
  ['ALTER TABLE widened ADD COLUMN added text DEFAULT random()::text', 'ALTER TABLE widened DROP COLUMN added'],
  ['VACUUM FULL vacuumed'],
  [`BEGIN; DROP TABLE replaced; CREATE TABLE replaced AS ${rows(STORM_ROWS)}; COMMIT`],
  [
    `BEGIN; ALTER TABLE swapped_a RENAME TO swapped_c; ALTER TABLE swapped_b RENAME TO swapped_a;
     ALTER TABLE swapped_c RENAME TO swapped_b; COMMIT`,
  ],
  ['CREATE INDEX i ON indexed (n)', 'REINDEX INDEX i', 'DROP INDEX i'],
  [
    'ALTER TABLE parted DETACH PARTITION parted_one',
    'ALTER TABLE parted ATTACH PARTITION parted_one FOR VALUES IN (1)',
  ],
  [
    `BEGIN; ALTER SCHEMA live RENAME TO former; ALTER SCHEMA staged RENAME TO live; ALTER SCHEMA former RENAME TO staged;
     COMMIT`,
  ],
  [`CREATE TABLE passing AS ${rows(STORM_ROWS)}`, 'DROP TABLE passing'],
  ['BEGIN; DROP VIEW IF EXISTS seen; CREATE VIEW seen AS SELECT n FROM quiet; COMMIT'],
];

export interface Storm extends AsyncDisposable {
  /** Statements that were carried out. */
  readonly count: () => number;
  /** What the server said of those that were not: a deadlock, say. */
  readonly errors: readonly string[];
}

/** Changes the tables of STORM_SQL by several clients at once, each with pauses of up to so many milliseconds. */
export async function startStorm(connect: () => Promise<Client>, pauseMsMax: number): Promise<Storm> {
  const errors: string[] = [];
  let count = 0;
  const over = new AbortController();
  const pause = (): Promise<void> =>
    delay(Math.random() * pauseMsMax, undefined, { signal: over.signal }).catch(() => undefined);
  const clients = await Promise.all(
    WORKS.map(async (statements) => {
      const client = await connect();
      return async (): Promise<void> => {
        await pause();
        for (let at = 0; !over.signal.aborted; at = (at + 1) % statements.length) {
          await client.query(statements[at] ?? '').catch((error: unknown) => errors.push(String(error)));
          count += 1;
          await pause();
        }
        await client.end();
      };
    }),
  );
  const running = clients.map((run) => run());
  return {
    count: () => count,
    errors,
    async [Symbol.asyncDispose]() {
      over.abort();
      await Promise.all(running);
    },
  };
}

/** What is wrong with the rows of a backup's tables: each is there with all its rows, whatever the moment was. */
export function stormDamage(counts: Readonly<Record<string, number>>): readonly string[] {
  const expected = [...ORDINARY, 'parted_one', 'parted_rest'].map((table) => `public.${table}`);
  const damage = expected.flatMap((table) => (counts[table] === STORM_ROWS ? [] : [`${table}: ${counts[table]}`]));
  const passing = counts['public.passing'] ?? STORM_ROWS;
  if (passing !== STORM_ROWS) damage.push(`public.passing: ${passing}`);
  const both = `${counts['live.t']} and ${counts['staged.t']}`;
  const whole = [`${LIVE_ROWS} and ${STAGED_ROWS}`, `${STAGED_ROWS} and ${LIVE_ROWS}`];
  if (!whole.includes(both)) damage.push(`live.t and staged.t: ${both}`);
  return damage;
}
