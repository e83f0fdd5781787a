import type { ByteStream } from '../../common/bytes.ts';
import { ProgramFailure, programOutput } from '../../common/child-process.ts';
import { PgarkError } from '../../common/errors.ts';
import { leftAtOnce } from '../../common/left-at-once.ts';
import type { Logger } from '../../common/log.ts';
import { clientProgram } from '../../postgres/client/client-program.ts';
import { type ConnectionParameters, describeConnection } from '../../postgres/client/connection-parameters.ts';
import type { InstalledProgram } from '../../postgres/client/programs.ts';

/** As much of the end of the output as is sure to hold pg_dumpall's closing comment. */
const TAIL_BYTES = 256;

export interface GlobalsDumpRequest {
  readonly connection: ConnectionParameters;
  readonly pgDumpall: InstalledProgram;
  /** Needs a role that may read pg_authid. */
  readonly withPasswords: boolean;
  /** SQL that follows what pg_dumpall writes. */
  readonly appendix: string;
  readonly applicationName: string;
  /** Each chunk's length as it is read from pg_dumpall, for watchdogs. */
  readonly onBytesRead?: (bytes: number) => void;
  readonly logger: Logger;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The SQL text of a server's roles, memberships and tablespaces by pg_dumpall, and the appendix. The stream ends normally
 * only after pg_dumpall exited with 0 and wrote its last line. Errors: `dump-failed`, `postgres-privileges`.
 */
export function dumpGlobals(request: GlobalsDumpRequest): ByteStream {
  return leftAtOnce((signal) => runDump(request, signal), request.signal);
}

async function* runDump(request: GlobalsDumpRequest, signal: AbortSignal): ByteStream {
  const { connection, pgDumpall, logger } = request;
  const client = clientProgram(connection, request.applicationName);
  const output = programOutput(
    {
      name: 'pg_dumpall',
      path: pgDumpall.path,
      args: [
        '--globals-only',
        '--no-password',
        ...(request.withPasswords ? [] : ['--no-role-passwords']),
        // By itself it connects to postgres or template1, which may be closed to this role.
        `--database=dbname=${quoteConnectionValue(connection.database)}`,
      ],
      ...client,
      // Until when passwords are valid is written in the style of the server, which another one reads as another day.
      env: { ...client.env, PGDATESTYLE: 'ISO' },
      onStderrLine: (line) => logger.debug('globals.message', line),
      onStdoutBytes: request.onBytesRead,
    },
    signal,
  );
  let tail: Uint8Array = new Uint8Array();
  try {
    for await (const chunk of output) {
      // A copy: the chunk itself is the consumer's, who may free it.
      tail = Buffer.concat([tail, chunk.subarray(-TAIL_BYTES)]).subarray(-TAIL_BYTES);
      yield chunk;
    }
  } catch (error) {
    throw error instanceof ProgramFailure ? explain(error, connection) : error;
  }
  if (!Buffer.from(tail).includes('PostgreSQL database cluster dump complete')) {
    throw new PgarkError(
      'dump-failed',
      `the globals of ${describeConnection(connection)} have no end, although pg_dumpall exited with 0`,
    );
  }
  // pg_dumpall has said the encoding of the database that it was connected to.
  yield Buffer.from(`\nSET client_encoding = 'UTF8';\n${request.appendix}`);
}

/** A value in a connection string of libpq, by which it cannot be taken for one itself. */
function quoteConnectionValue(value: string): string {
  return `'${value.replaceAll(/[\\']/g, String.raw`\$&`)}'`;
}

function explain(failure: ProgramFailure, connection: ConnectionParameters): PgarkError {
  const denied = failure.stderrLines.some((line) => line.includes('permission denied'));
  return new PgarkError(
    denied ? 'postgres-privileges' : 'dump-failed',
    `the globals of ${describeConnection(connection)} could not be read: ${failure.message}`,
    {
      cause: failure,
      hint: denied
        ? 'set globals: no-passwords, or globals: none for a server that shows its roles to nobody'
        : 'the message carries pg_dumpall’s own last words; globals: none does without them',
    },
  );
}
