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
const KEPT_BYTES_MAX = 16 * 1024;
/** Of pg_amcheck: it has looked at everything, and found something. */
const DAMAGE_FOUND = 2;

/**
 * What ALTER ROLE, ALTER DATABASE and the old server's configuration set for applications would look like damage: a statement that is
 * cut off, an extension that cannot be made. As a replica, event triggers that refuse the latter do not fire.
 */
const OPTIONS: readonly (readonly [name: string, value: string, sinceMajor: number])[] = [
  ['statement_timeout', '0', 0],
  ['lock_timeout', '0', 0],
  ['idle_in_transaction_session_timeout', '0', 0],
  ['idle_session_timeout', '0', 14],
  ['transaction_timeout', '0', 17],
  ['default_transaction_read_only', 'off', 0],
  ['session_replication_role', 'replica', 0],
];

/** Shut are template0, and what was shut by somebody; into one that was half removed (-2) nobody gets. By number: names have encodings. */
const OPEN_SHUT = `update pg_catalog.pg_database set datallowconn = true where not datallowconn and datconnlimit <> -2
  returning oid::text`;
const SHUT_AGAIN = 'update pg_catalog.pg_database set datallowconn = false where oid = any ($1::oid[])';

/**
 * Looks through every page of every table and B-tree of a restored server with pg_amcheck, where that is installed, and for each row in
 * the B-trees of its table; also in databases that let nobody in. Error: `drill-failed` where it finds damage.
 */
export async function amcheck(
  connection: ConnectionParameters,
  binDir: string,
  { applicationName, manifest }: DrillWork,
  run: Run,
  { signal, onProgress }: OperationContext,
): Promise<'passed' | 'not-installed'> {
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
  const args = ['--all', '--install-missing', '--heapallindexed', '--no-password'];
  const output = programOutput({ name: 'pg_amcheck', path: program, args, ...client }, signal);
  const said: string[] = [];
  try {
    for await (const text of beginningOf(output)) said.push(text);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ProgramFailure)) throw error;
    // One that is gone, for want of memory say, was not found damaged.
    await within((session) => session.query('select'));
    throw failureOf(error, said.join(''), sortsOtherwise(manifest.server.libc, libcHere()));
  }
  await within((session) => session.query(SHUT_AGAIN, [opened.map(({ oid }) => oid)]));
  return 'passed';
}

/** All is read, and no more kept than anybody would look at. */
async function* beginningOf(output: ByteStream): AsyncGenerator<string> {
  let left = KEPT_BYTES_MAX;
  for await (const block of output) {
    const kept = block.subarray(0, left);
    left -= kept.length;
    if (kept.length > 0) yield Buffer.from(kept).toString('utf8');
  }
}

function failureOf(cause: ProgramFailure, said: string, isOtherOrder: boolean): PgarkError {
  const { exitCode, signalName, stderrLines } = cause;
  const words = shown([...said.split('\n'), ...stderrLines]);
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
