import { releaseBlock } from '../../common/block-memory.ts';
import { PgarkError } from '../../common/errors.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { withRetries } from '../../common/retry.ts';
import { Digest } from '../../pipeline/digest.ts';
import { RowsHash } from '../../pipeline/rows-hash.ts';
import { quoteLiteral, type Session } from '../../postgres/client/connect.ts';
import { describeConnection } from '../../postgres/client/connection-parameters.ts';
import { EXTENSION_ROWS_SQL } from '../../postgres/client/extension-rows.ts';
import type { ByteString } from '../../postgres/toc/byte-string.ts';
import { readCopyStatement } from '../../postgres/toc/copy-statement.ts';
import type { TocEntry } from '../../postgres/toc/toc.ts';
import { evidenceOf, type RowsEvidence } from './contents.ts';
import { decodeName } from './decode-name.ts';
import { openDumpSession } from './dump-session.ts';
import { qualifiedName } from './find-entries.ts';
import type { LargeObjectFile } from './load-data.ts';
import { isLost, type LoadSessionOptions, RECONNECTING } from './load-session.ts';
import { readLargeObject } from './read-piece.ts';

/** A table, and what was recorded of its rows. */
export interface RecordedTable extends RowsEvidence {
  readonly entry: TocEntry;
}

export interface RowsVerification extends LoadSessionOptions {
  readonly jobs: number;
  /** Of the archive's strings and rows, as PostgreSQL names it. */
  readonly encoding: string;
  readonly onBytesRead: (bytes: number) => void;
}

/** What is read and compared by one session at a time: says what differs, if something does. */
type Comparison = (session: Session, how: RowsVerification) => Promise<string | undefined>;

const SHOWN_MAX = 5;

/**
 * Reads all rows and large objects that were loaded once more, as a dump reads them, and compares them with what was
 * recorded when they were dumped. Errors: `corrupt` naming what differs, `restore-failed`, `postgres-…`.
 */
export async function verifyRows(
  tables: readonly RecordedTable[],
  largeObjects: readonly LargeObjectFile[],
  how: RowsVerification,
): Promise<void> {
  const comparisons = [...tableComparisons(tables), ...largeObjects.map(largeObjectComparison)];
  const differences: string[] = [];
  await inParallel(comparisons, how.jobs, how.signal, async (take, signal) => {
    const reader = new Reader({ ...how, signal });
    try {
      for (let compare = take(); compare !== undefined; compare = take()) {
        const difference = await reader.read(compare);
        if (difference !== undefined) differences.push(difference);
      }
    } finally {
      await reader.close();
    }
  });
  if (differences.length === 0) return;
  const more = differences.length > SHOWN_MAX ? `; and ${differences.length - SHOWN_MAX} more` : '';
  throw new PgarkError(
    'corrupt',
    `what was restored into ${describeConnection(how.connection)} is not what was dumped: ${differences.slice(0, SHOWN_MAX).join('; ')}${more}`,
    {
      hint: 'nothing was kept; restore once more, into a server of the version that was backed up, or restore another backup',
    },
  );
}

/** A session that reads; one whose connection breaks is made anew, since reading twice does no harm. */
class Reader {
  readonly #how: RowsVerification;
  #session: Session | undefined;

  constructor(how: RowsVerification) {
    this.#how = how;
  }

  read(compare: Comparison): Promise<string | undefined> {
    const { connection, applicationName, clock, random, signal } = this.#how;
    return withRetries(
      async () => {
        this.#session ??= await openDumpSession(connection, { applicationName, signal });
        try {
          return await compare(this.#session, this.#how);
        } catch (error) {
          await this.close();
          throw error;
        }
      },
      { policy: RECONNECTING, clock, random, signal, isRetryable: isLost },
    );
  }

  async close(): Promise<void> {
    await this.#session?.close();
    this.#session = undefined;
  }
}

/** One for each table that rows were loaded into: partitions may have been loaded by way of the table that they are of. */
function tableComparisons(tables: readonly RecordedTable[]): readonly Comparison[] {
  const targets = Map.groupBy(tables, ({ entry }) => readCopyStatement(entry).relation);
  return [...targets].map(([relation, parts]) => {
    const [columns = '' as ByteString, ...others] = new Set(parts.map(({ entry }) => readCopyStatement(entry).columns));
    const recorded = evidenceOf(parts);
    const names = parts.map(({ entry }) => qualifiedName(entry)).join(', ');
    // Of rows whose columns are in another order there, no hash can be compared.
    const comparable = others.length === 0 ? recorded : { rows: recorded.rows };
    return async (session, how) => {
      const found = await readRows(session, { relation, columns }, how);
      if (found === undefined) return `${names} is not there`;
      const compared = comparable.hash === undefined ? { rows: found.rows } : found;
      if (compared.rows === comparable.rows && compared.hash === comparable.hash) return undefined;
      return `${names} has ${describe(compared)}, and ${describe(comparable)} were recorded`;
    };
  });
}

function describe({ rows, hash }: RowsEvidence): string {
  return hash === undefined ? `${rows} rows` : `${rows} rows of hash ${hash}`;
}

const TARGET_SQL = `select c.relkind::text as kind,
    coalesce((select condition from (${EXTENSION_ROWS_SQL}) as configured where configured.oid = c.oid), '') as condition
  from pg_catalog.pg_class c where c.oid = pg_catalog.to_regclass($1)`;

async function readRows(
  session: Session,
  target: { readonly relation: ByteString; readonly columns: ByteString },
  { encoding, signal, onBytesRead }: RowsVerification,
): Promise<RowsEvidence | undefined> {
  const relation = await decodeName(session, target.relation, encoding);
  const columns = await decodeName(session, target.columns, encoding);
  const [facts] = await session.query<{ kind: string; condition: string }>(TARGET_SQL, [relation]);
  if (facts === undefined) return undefined;
  const from = `${facts.kind === 'p' ? '' : 'ONLY '}${relation} ${facts.condition}`;
  const copy = session.copyOut(
    `COPY (SELECT ${columns} FROM ${from}) TO STDOUT WITH (FORMAT text, ENCODING ${quoteLiteral(encoding)})`,
    { signal, onBytes: onBytesRead },
  );
  const hash = new RowsHash();
  for await (const block of hash.tap(copy.stream)) releaseBlock(block);
  return { rows: copy.rows(), hash: hash.digest() };
}

function largeObjectComparison({ oid, file }: LargeObjectFile): Comparison {
  return async (session, { signal, onBytesRead }) => {
    const digest = new Digest();
    for await (const _ of digest.tap(readLargeObject(session, oid, { onBytes: onBytesRead, signal })));
    return digest.sha256 === file.plainSha256 ? undefined : `large object ${oid} has another content`;
  };
}
