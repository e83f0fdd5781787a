import type { ByteStream } from '../../common/bytes.ts';
import { ProgramFailure, programOutput } from '../../common/child-process.ts';
import { PgarkError } from '../../common/errors.ts';
import { leftAtOnce } from '../../common/left-at-once.ts';
import type { Logger } from '../../common/log.ts';
import { clientProgram } from '../../postgres/client/client-program.ts';
import { type ConnectionParameters, describeConnection } from '../../postgres/client/connection-parameters.ts';
import { withLargeWrites } from '../../postgres/client/large-writes.ts';
import type { InstalledProgram } from '../../postgres/client/programs.ts';
import { peek } from '../../pipeline/peek.ts';
import { explainDumpFailure } from '../dump-failure.ts';
import { warnOfNewerClient } from '../newer-client.ts';
import { DUMP_HEAD_BYTES, readDumpHead } from './dump-head.ts';
import { editsAtDump } from './server-fit.ts';
import { withStatementsEdited } from './sql-script.ts';
import { passOnMessages } from './program-messages.ts';
import { withoutNewerSettings } from './newer-settings.ts';

/** As much of the end of a dump as is sure to hold pg_dump's closing comment. */
const TAIL_BYTES = 256;

/**
 * How long pg_dump waits for its locks on tables: without end by itself, in which time the backup would look alive, and
 * its snapshot would keep VACUUM from removing rows.
 */
const LOCK_WAIT_MS = 5 * 60_000;

export interface PlainDumpRequest {
  readonly connection: ConnectionParameters;
  readonly pgDump: InstalledProgram;
  /** Major version of the server: a newer pg_dump's text is made fit for it. */
  readonly serverMajor: number;
  /** Patterns of tables whose rows are left out (`audit.*`); their definitions stay. */
  readonly excludeTableData: readonly string[];
  readonly applicationName: string;
  /** How long pg_dump waits for its locks on tables. Default: 5 minutes. */
  readonly lockWaitMs?: number;
  /** Each chunk's length as it is read from pg_dump, for watchdogs. */
  readonly onBytesRead?: (bytes: number) => void;
  readonly logger: Logger;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The SQL text of a database by pg_dump. Row-level security is never applied in silence: pg_dump runs with
 * `row_security = off`, so that the server refuses a query that would leave rows out. The stream ends normally only
 * after pg_dump exited with 0. Left early, pg_dump is ended at once, also while it is silent (it waits for a lock, or its
 * server does not answer). Errors: `dump-failed`, `postgres-privileges`, `postgres-…`.
 */
export function dumpPlain(request: PlainDumpRequest): ByteStream {
  return leftAtOnce((signal) => runDump(request, signal), request.signal);
}

async function* runDump(request: PlainDumpRequest, signal: AbortSignal): ByteStream {
  const { connection, pgDump, serverMajor, logger } = request;
  warnOfNewerClient(logger, pgDump, serverMajor);
  const program = await withLargeWrites(
    {
      name: 'pg_dump',
      path: pgDump.path,
      args: [
        '--format=plain',
        '--no-password',
        `--lock-wait-timeout=${request.lockWaitMs ?? LOCK_WAIT_MS}`,
        ...request.excludeTableData.map((pattern) => `--exclude-table-data=${pattern}`),
      ],
      ...clientProgram(connection, request.applicationName),
      onStderrLine: passOnMessages(logger, 'dump'),
      onStdoutBytes: request.onBytesRead,
    },
    signal,
  );
  const output = programOutput(program, signal);
  let complete = false;
  try {
    let tail: Uint8Array = new Uint8Array();
    for await (const chunk of withoutInternals(withoutNewerSettings(serverMajor)(output))) {
      // A copy: the chunk itself is the consumer's, who may free it.
      tail = Buffer.concat([tail, chunk.subarray(-TAIL_BYTES)]).subarray(-TAIL_BYTES);
      yield chunk;
    }
    complete = Buffer.from(tail).includes('PostgreSQL database dump complete');
  } catch (error) {
    throw error instanceof ProgramFailure ? explainDumpFailure(error, connection) : error;
  }
  if (!complete) {
    throw new PgarkError(
      'dump-failed',
      `the dump of ${describeConnection(connection)} has no end, although pg_dump exited with 0`,
    );
  }
}

/** What this pg_dump took for a part of the database although it is none; only where it may have done so. */
async function* withoutInternals(source: ByteStream): ByteStream {
  const { first, stream } = await peek(source, DUMP_HEAD_BYTES);
  const edits = editsAtDump(readDumpHead(first) ?? { kind: 'sql' });
  yield* edits.length === 0 ? stream : withStatementsEdited(edits)(stream);
}
