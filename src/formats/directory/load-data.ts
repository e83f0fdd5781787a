import { type ByteStream, MIB } from '../../common/bytes.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import { describeConnection } from '../../postgres/client/connection-parameters.ts';
import { quoteLiteral, type Session, sqlStateOf } from '../../postgres/client/connect.ts';
import { LostBackends } from '../../postgres/client/lost-backends.ts';
import { readCopyStatement } from '../../postgres/toc/copy-statement.ts';
import { TABLE_DATA, type TocEntry } from '../../postgres/toc/toc.ts';
import type { ArchiveFile } from './contents.ts';
import { decodeName } from './decode-name.ts';
import { withoutEndMark } from './end-mark.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { qualifiedName } from './find-entries.ts';
import { LoadQueue } from './load-queue.ts';
import {
  type Attempted,
  LoadSession,
  type LoadSessionOptions,
  SessionMissing,
  unsettledError,
} from './load-session.ts';

/** What one transaction loads: rows of a table from one file, or some large objects. */
export type LoadTask =
  | { readonly kind: 'rows'; readonly file: ArchiveFile; readonly entry: TocEntry; readonly rows: number }
  | { readonly kind: 'large-objects'; readonly objects: readonly LargeObjectFile[] };

export interface LargeObjectFile {
  readonly oid: string;
  readonly file: ArchiveFile;
}

export interface DataLoad extends LoadSessionOptions {
  readonly jobs: number;
  /** Of the archive's strings and rows, as PostgreSQL names it. */
  readonly encoding: string;
  /** The plain bytes of a file, checked. */
  readonly read: (file: ArchiveFile) => ByteStream;
}

/** PostgreSQL's name for none. */
const NO_ENCODING = 'SQL_ASCII';
/** character_not_in_repertoire */
const NOT_IN_ENCODING = '22021';
/** Large objects are many and mostly small: so many, or so many bytes, go into one transaction. */
const LARGE_OBJECTS_MAX = 500;
const LARGE_OBJECTS_BYTES_MAX = 64 * MIB;

/** The largest first, so that no worker has to finish one while all others are done. */
export function planTasks(
  rows: readonly Extract<LoadTask, { kind: 'rows' }>[],
  largeObjects: readonly LargeObjectFile[],
): readonly LoadTask[] {
  const sized = rows.map((task) => ({ task: task as LoadTask, bytes: task.file.plainBytes }));
  let batch: LargeObjectFile[] = [];
  let bytes = 0;
  const endBatch = (): void => {
    if (batch.length > 0) sized.push({ task: { kind: 'large-objects', objects: batch }, bytes });
    batch = [];
    bytes = 0;
  };
  for (const object of largeObjects) {
    batch.push(object);
    bytes += object.file.plainBytes;
    if (batch.length === LARGE_OBJECTS_MAX || bytes >= LARGE_OBJECTS_BYTES_MAX) endBatch();
  }
  endBatch();
  return sized.toSorted((a, b) => b.bytes - a.bytes).map(({ task }) => task);
}

/**
 * The tasks in their order, in stages, each of which wants the ones before it. Foreign keys of an extension's tables are there
 * as soon as the extension is, and pg_dump says what they refer to by nothing but the order of its `entries` (it sorts by
 * `processExtensionTables`, and writes of rows only which table they are of). So these tables are loaded one after the
 * other; and before all others, whose rows an extension may check by its own.
 */
export function stagesOf(tasks: readonly LoadTask[], entries: readonly TocEntry[]): readonly (readonly LoadTask[])[] {
  const defined = new Set(entries.map(({ dumpId }) => dumpId));
  // What an extension makes has no definition of its own in the TOC.
  const ofExtensions = entries.filter(
    ({ description, dependencies }) =>
      description === TABLE_DATA && !dependencies.some((dumpId) => defined.has(dumpId)),
  );
  const turns = new Map(ofExtensions.map(({ dumpId }, turn) => [dumpId, turn]));
  const stages = Array.from({ length: ofExtensions.length + 1 }, (): LoadTask[] => []);
  for (const task of tasks) {
    const turn = task.kind === 'rows' ? turns.get(task.entry.dumpId) : undefined;
    stages[turn ?? ofExtensions.length]?.push(task);
  }
  return stages.filter((stage) => stage.length > 0);
}

/** A task, and what is left of attempts to carry it out. */
interface Turn extends Attempted {
  readonly task: LoadTask;
}

/**
 * Loads everything, on several connections; with fewer of them if the server gives no more. A stage begins when all of the
 * one before is committed. Each file is read to its end and proven before its rows are committed, and its rows are there
 * exactly once. Resolves with as many connections as the server gives. Errors: `restore-failed` with the server's words,
 * `corrupt` for rows that are not as many as were recorded, those of `read`.
 */
export async function loadData(stages: readonly (readonly LoadTask[])[], load: DataLoad): Promise<number> {
  let { jobs } = load;
  for (const tasks of stages) jobs = await loadStage(tasks, { ...load, jobs });
  return jobs;
}

async function loadStage(tasks: readonly LoadTask[], load: DataLoad): Promise<number> {
  const lost = new LostBackends();
  const numbers = Array.from({ length: Math.min(load.jobs, tasks.length) }, (_, index) => index);
  const turns = tasks.map((task): Turn => ({ task }));
  const queue = new LoadQueue(turns, numbers.length);
  await inParallel(numbers, numbers.length, load.signal, async (_, signal) => {
    const session = new LoadSession({ ...load, signal }, lost);
    try {
      await loadInTurn(session, queue, { ...load, signal });
    } finally {
      await session.close();
    }
  });
  return queue.workers < numbers.length ? queue.workers : load.jobs;
}

/** One session's share. */
async function loadInTurn(session: LoadSession, queue: LoadQueue<Turn>, load: DataLoad): Promise<void> {
  for (let turn = await queue.take(load.signal); turn !== undefined; turn = await queue.take(load.signal)) {
    try {
      await carryOut(session, turn, load);
    } catch (error) {
      if (error instanceof SessionMissing && queue.giveBack(turn)) {
        load.logger.warning('load.fewer_connections', `the load goes on with fewer connections: ${error.message}`);
        return;
      }
      queue.done();
      throw finalError(error, turn);
    }
    queue.done();
  }
  await session.tidyUp();
}

function carryOut(session: LoadSession, turn: Turn, load: DataLoad): Promise<void> {
  const { task } = turn;
  return task.kind === 'rows' ? loadRows(session, task, turn, load) : loadLargeObjects(session, task.objects, load);
}

function finalError(error: unknown, { unsettled }: Attempted): unknown {
  const cause = error instanceof SessionMissing ? error.cause : error;
  const isKnown = unsettled === undefined || !isPgarkError(cause, 'postgres-unreachable');
  return isKnown ? cause : unsettledError(unsettled, cause);
}

async function loadRows(
  session: LoadSession,
  { entry, file, rows }: Extract<LoadTask, { kind: 'rows' }>,
  attempted: Attempted,
  load: DataLoad,
): Promise<void> {
  const table = qualifiedName(entry);
  const open = (): ByteStream => withoutEndMark(file.plainBytes, `${file.name}, of ${table},`)(load.read(file));
  const accept = (count: number): void => {
    if (count === rows) return;
    throw new PgarkError('corrupt', `${file.name} gave ${count} rows of ${table}, and ${rows} were recorded`);
  };
  try {
    const statement = (connected: Session): Promise<string> => copyStatement(connected, entry, load.encoding);
    await session.copy({ statement, open, accept }, attempted);
  } catch (error) {
    throw explain(error, table, load);
  }
}

/**
 * As the entry has it, but that names and rows need not be in the same encoding. Rows of a database without an encoding are
 * taken for what the target's are: by the name of none, the server would not look at their bytes, and keep what no query can read.
 */
async function copyStatement(session: Session, entry: TocEntry, encoding: string): Promise<string> {
  const { relation, columns } = readCopyStatement(entry);
  const target = columns === '' ? relation : `${relation} (${columns})`;
  const ofRows = encoding === NO_ENCODING ? await serverEncodingOf(session) : encoding;
  return `COPY ${await decodeName(session, target, encoding)} FROM STDIN WITH (FORMAT text, ENCODING ${quoteLiteral(ofRows)})`;
}

async function serverEncodingOf(session: Session): Promise<string> {
  const [row] = await session.query<{ encoding: string }>(
    `select pg_catalog.current_setting('server_encoding') as encoding`,
  );
  return row?.encoding ?? NO_ENCODING;
}

async function loadLargeObjects(
  session: LoadSession,
  objects: readonly LargeObjectFile[],
  load: DataLoad,
): Promise<void> {
  try {
    await session.repeatable(async (connected) => {
      for (const object of objects) await writeLargeObject(connected, object, load);
    });
  } catch (error) {
    throw explain(error, 'large objects', load);
  }
}

async function writeLargeObject(session: Session, { oid, file }: LargeObjectFile, load: DataLoad): Promise<void> {
  let offset = 0;
  for await (const block of load.read(file)) {
    load.signal.throwIfAborted();
    const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
    await session.query('select pg_catalog.lo_put($1, $2, $3)', [oid, offset, bytes]);
    offset += block.length;
  }
}

/** What the server said of a table's rows; what the store or the file is to blame for passes as it is. */
function explain(error: unknown, what: string, { connection, encoding }: DataLoad): unknown {
  if (!isPgarkError(error, 'postgres-failed') && !isPgarkError(error, 'postgres-privileges')) return error;
  const isUnreadable = encoding === NO_ENCODING && sqlStateOf(error) === NOT_IN_ENCODING;
  return new PgarkError(
    'restore-failed',
    `loading ${what} into ${describeConnection(connection)} failed: ${error.message}`,
    {
      cause: error,
      hint: isUnreadable
        ? `nothing was kept; the backup is of a database without an encoding, whose text may be any bytes: restore it into one like that (CREATE DATABASE … ENCODING '${NO_ENCODING}' TEMPLATE template0), or with --to-db NAME into a new one`
        : 'nothing was kept; correct the cause and restore again',
    },
  );
}
