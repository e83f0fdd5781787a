import { access, constants } from 'node:fs/promises';
import path from 'node:path';
import type { ByteStream } from '../../common/bytes.ts';
import { ProgramFailure, programOutput } from '../../common/child-process.ts';
import { PgarkError } from '../../common/errors.ts';
import { connect, type Session } from '../../postgres/client/connect.ts';
import { clientProgram } from '../../postgres/client/client-program.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { libcHere, sortsOtherwise } from '../../postgres/client/sort-libraries.ts';
import { withSession } from '../../postgres/client/with-session.ts';
import type { Run } from '../../runs/run.ts';
import type { OperationContext } from '../context.ts';
import type { DrillWork } from './drill-request.ts';

const SHOWN_LINES_MAX = 5;
const KEPT_CHARS_MAX = 16 * 1024;
/** Of pg_amcheck: it has looked at everything, and found something. */
const DAMAGE_FOUND = 2;
/** Of the extension, in English, of each index that lacks a row of its table. */
const LACKS_ROW = 'lacks matching index tuple';
const ARGUMENTS = ['--all', '--install-missing', '--no-password'];

/**
 * What ALTER ROLE, ALTER DATABASE and the old server's configuration set for applications would look like damage: a statement that is
 * cut off, an extension that cannot be made. As a replica, event triggers that refuse the latter do not fire. What it
 * says is read in English.
 */
const OPTIONS: readonly (readonly [name: string, value: string, sinceMajor: number])[] = [
  ['statement_timeout', '0', 0],
  ['lock_timeout', '0', 0],
  ['idle_in_transaction_session_timeout', '0', 0],
  ['idle_session_timeout', '0', 14],
  ['transaction_timeout', '0', 17],
  ['default_transaction_read_only', 'off', 0],
  ['session_replication_role', 'replica', 0],
  ['lc_messages', 'C', 0],
];

/** Shut are template0, and what was shut by somebody; into one that was half removed (-2) nobody gets. By number: names have encodings. */
const OPEN_SHUT = `update pg_catalog.pg_database set datallowconn = true where not datallowconn and datconnlimit <> -2
  returning oid::text`;
const SHUT_AGAIN = 'update pg_catalog.pg_database set datallowconn = false where oid = any ($1::oid[])';

/**
 * Looks through every page of every table and B-tree of a restored server with pg_amcheck, where that is installed, and for each row in
 * the B-trees of its table; also in databases that let nobody in. `rows-in-part`: for the rows it could not look in all of them.
 * Error: `drill-failed` where it finds damage.
 */
export async function amcheck(
  connection: ConnectionParameters,
  binDir: string,
  { applicationName, manifest }: DrillWork,
  run: Run,
  { signal, onProgress }: OperationContext,
): Promise<'passed' | 'rows-in-part' | 'not-installed'> {
  const program = path.join(binDir, 'pg_amcheck');
  const isThere = await access(program, constants.X_OK).then(
    () => true,
    () => false,
  );
  const has = await withSession(connect(connection, { applicationName, signal }), signal, (session) =>
    session.query("select from pg_catalog.pg_available_extensions where name = 'amcheck'"),
  );
  if (!isThere || has.length === 0) {
    const why = isThere ? 'the extension amcheck is not installed' : `there is no pg_amcheck in ${binDir}`;
    run.logger.warning('drill.amcheck_missing', `tables and indexes are not looked through: ${why}`);
    return 'not-installed';
  }
  onProgress({ phase: 'verifying', subject: connection.database, bytes: 0 });
  const major = Math.floor(manifest.server.versionNum / 10_000);
  const options = OPTIONS.flatMap(([name, value, since]) => (major >= since ? [`-c ${name}=${value}`] : [])).join(' ');
  const within = <T>(ask: (session: Session) => Promise<T>): Promise<T> =>
    withSession(connect({ ...connection, options }, { applicationName, signal }), signal, ask);
  const opened = await within((session) => session.query<{ oid: string }>(OPEN_SHUT));
  const client = clientProgram({ ...connection, database: 'postgres', options }, applicationName);
  const lookThrough = (args: readonly string[]): Promise<Finding | undefined> =>
    findingOf(programOutput({ name: 'pg_amcheck', path: program, args, ...client }, signal), signal);
  const found = await lookThrough([...ARGUMENTS, '--heapallindexed']);
  // To look for rows, functions in indexes are called, and where these name no schemas they fail: that is no damage.
  const isDoubtful = found?.cause.exitCode === DAMAGE_FOUND && !found.lacksRow;
  const damage = isDoubtful ? await lookThrough(ARGUMENTS) : found;
  if (damage !== undefined) {
    // One that is gone, for want of memory say, was not found damaged.
    await within((session) => session.query('select'));
    throw failureOf(damage, sortsOtherwise(manifest.server.libc, libcHere()));
  }
  await within((session) => session.query(SHUT_AGAIN, [opened.map(({ oid }) => oid)]));
  if (found === undefined) return 'passed';
  run.logger.warning(
    'drill.rows_in_part',
    `whether they lack rows cannot be told of some indexes, whose functions have to work where search_path is empty: ${shown(found.lines)}`,
  );
  return 'rows-in-part';
}

interface Finding {
  readonly cause: ProgramFailure;
  /** What was said first. */
  readonly lines: readonly string[];
  readonly lacksRow: boolean;
}

/** All of the output is read, and no more kept than anybody would look at. Undefined: nothing was found. */
async function findingOf(output: ByteStream, signal: AbortSignal): Promise<Finding | undefined> {
  let said = '';
  let lacksRow = false;
  let tail = '';
  try {
    for await (const block of output) {
      const text = Buffer.from(block).toString('utf8');
      said += text.slice(0, Math.max(0, KEPT_CHARS_MAX - said.length));
      lacksRow ||= (tail + text).includes(LACKS_ROW);
      tail = (tail + text).slice(-LACKS_ROW.length);
    }
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ProgramFailure)) throw error;
    return { cause: error, lines: [...said.split('\n'), ...error.stderrLines], lacksRow };
  }
}

function failureOf({ cause, lines }: Finding, isOtherOrder: boolean): PgarkError {
  const { exitCode, signalName } = cause;
  const words = shown(lines);
  if (exitCode === undefined || signalName !== undefined) {
    return new PgarkError('drill-impossible', `the restored server was not looked through: ${cause.message}`, {
      cause,
    });
  }
  if (exitCode !== DAMAGE_FOUND) {
    return new PgarkError('drill-failed', `pg_amcheck could not look through the restored server: ${words}`, {
      cause,
      hint: 'run pg_amcheck --heapallindexed on the original server: where it says the same there, it is no fault of the backup',
    });
  }
  return new PgarkError('drill-failed', `pg_amcheck found the restored server damaged: ${words}`, {
    cause,
    hint: isOtherOrder
      ? 'this machine sorts text otherwise than that of the original, and indexes on text may be in another order for that alone: drill where the C library is the same'
      : 'run pg_amcheck --heapallindexed on the original server: where it finds the same there, the damage is older than the backup',
  });
}

function shown(all: readonly string[]): string {
  const lines = all.map((line) => line.trim()).filter((line) => line !== '');
  const more = lines.length > SHOWN_LINES_MAX ? `; and ${lines.length - SHOWN_LINES_MAX} lines more` : '';
  return lines.slice(0, SHOWN_LINES_MAX).join('; ') + more;
}
