import type { ByteStream } from '../../common/bytes.ts';
import { KIB, MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { leftAtOnce } from '../../common/left-at-once.ts';
import { RowsHash } from '../../pipeline/rows-hash.ts';
import { quoteLiteral, type Session } from '../../postgres/client/connect.ts';
import { TABLE_DATA_END } from '../../postgres/toc/toc.ts';
import { tableName } from './dump-session.ts';
import type { TablePiece } from './piece-plan.ts';

/** Of a large object that is read at once. */
const SLICE_BYTES = MIB;
/** Of each of several that are read at once, which together are not more than that. */
const HEAD_BYTES = 64 * KIB;
export const HEADS_AT_ONCE = SLICE_BYTES / HEAD_BYTES;

export interface ReadOptions {
  /** Of the data: the client encoding of the dump, as PostgreSQL names it. */
  readonly encoding: string;
  /** Length of each piece as it comes from the server, for watchdogs. */
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/** The file of a piece, and when it has come to its end, what is known of its rows. */
export interface PieceStream {
  readonly stream: ByteStream;
  /** Resolves when all rows have come, and the session is free. It never does if the stream fails or is left before. */
  readonly ended: Promise<void>;
  readonly rows: () => number;
  /** As `RowsHash` makes it. */
  readonly hash: () => string;
}

/**
 * The rows of a piece as the data file of a directory archive has them. Read it once. Errors: `postgres-…`, among them one
 * for a table whose schema was renamed in the very moment, so that the rows may be another table's.
 */
export function readTablePiece(session: Session, piece: TablePiece, options: ReadOptions): PieceStream {
  let rows: () => number = () => 0;
  const hash = new RowsHash();
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const read = async function* (signal: AbortSignal): ByteStream {
    const table = await tableName(session, piece.oid);
    const copy = session.copyOut(copyStatement(table, piece, options.encoding), { signal, onBytes: options.onBytes });
    rows = () => copy.rows();
    yield* hash.tap(copy.stream);
    if ((await tableName(session, piece.oid)) !== table) {
      throw new PgarkError('postgres-failed', `${table} has another name since it was read`);
    }
    end();
    yield Buffer.from(TABLE_DATA_END);
  };
  return { stream: leftAtOnce(read, options.signal), ended, rows: () => rows(), hash: () => hash.digest() };
}

/** A range of pages is read by `SELECT`; `COPY` of the table itself leaves out what inherits from it, as `ONLY` does. */
function copyStatement(table: string, { columns, condition, pages }: TablePiece, encoding: string): string {
  const conditions = pages === undefined ? condition : `WHERE ${rangeCondition(pages)}`;
  const list = columns === '' ? '' : ` (${columns})`;
  const rows = conditions === '' ? `${table}${list}` : `(SELECT ${columns} FROM ONLY ${table} ${conditions})`;
  return `COPY ${rows} TO STDOUT WITH (FORMAT text, ENCODING ${quoteLiteral(encoding)})`;
}

function rangeCondition({ from, to }: NonNullable<TablePiece['pages']>): string {
  const start = `ctid >= '(${from},0)'::tid`;
  return to === undefined ? start : `${start} AND ctid < '(${to},0)'::tid`;
}

/** What lies at the beginning of a large object, and of most is all. */
export interface LargeObjectHead {
  readonly oid: string;
  readonly bytes: Uint8Array;
  readonly isWhole: boolean;
}

/** The beginnings of some large objects, `HEADS_AT_ONCE` at the most, in one query. Errors: `postgres-…`. */
export async function readHeads(
  session: Session,
  oids: readonly string[],
  { onBytes }: Pick<ReadOptions, 'onBytes'>,
): Promise<readonly LargeObjectHead[]> {
  const rows = await session.query<{ bytes: Buffer }>(
    `select pg_catalog.lo_get(oid, 0, $2) as bytes
     from pg_catalog.unnest($1::pg_catalog.oid[]) with ordinality as u(oid, at) order by at`,
    [oids, HEAD_BYTES],
  );
  return oids.map((oid, index) => {
    const bytes = rows[index]?.bytes;
    if (bytes === undefined) throw nothingGiven(oid);
    onBytes(bytes.length);
    return { oid, bytes, isWhole: bytes.length < HEAD_BYTES };
  });
}

/** The content of a large object, or what follows those bytes of it. Errors: `postgres-…`. */
export async function* readLargeObject(
  session: Session,
  oid: string,
  { onBytes, signal }: Pick<ReadOptions, 'onBytes' | 'signal'>,
  head: Uint8Array = new Uint8Array(0),
): AsyncGenerator<Uint8Array> {
  if (head.length > 0) yield head;
  for (let offset = head.length; ; offset += SLICE_BYTES) {
    signal.throwIfAborted();
    const [row] = await session.query<{ bytes: Buffer }>('select pg_catalog.lo_get($1::oid, $2, $3) as bytes', [
      oid,
      offset,
      SLICE_BYTES,
    ]);
    if (row === undefined) throw nothingGiven(oid);
    onBytes(row.bytes.length);
    if (row.bytes.length > 0) yield row.bytes;
    if (row.bytes.length < SLICE_BYTES) return;
  }
}

function nothingGiven(oid: string): PgarkError {
  return new PgarkError('postgres-failed', `the server gave nothing for large object ${oid}`);
}
