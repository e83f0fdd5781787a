import { messageOf, PgarkError } from '../../common/errors.ts';
import { connect, type Row, type Session, sqlStateOf } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { withSession } from '../../postgres/client/with-session.ts';

/** What must be so in a restored database. */
export interface Assertion {
  /** A query; the first column of each of its rows counts, and there has to be one. */
  readonly sql: string;
  /** What each of them has to be. Without any of these: true. */
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  readonly equals?: number | boolean | string | undefined;
}

/** An assertion that takes longer proves nothing in the night. */
const TIMEOUT_MS = 10 * 60_000;
const ROWS_MAX = 10_000;
const SHOWN_CHARACTERS_MAX = 200;
const RESULT = 'pgark_result';

/**
 * Asks a database whether all of it holds, one after the other, each in a transaction that may only read. Nothing of the rows is
 * told to anybody. Errors: `drill-failed`, naming the first that does not hold; `drill-impossible` where the server has not enough room
 * or memory for it; `postgres-…` where it does not answer.
 */
export async function checkAssertions(
  connection: ConnectionParameters,
  assertions: readonly Assertion[],
  { applicationName, signal }: { readonly applicationName: string; readonly signal: AbortSignal },
): Promise<void> {
  if (assertions.length === 0) return;
  await withSession(connect(connection, { applicationName, signal }), signal, async (session) => {
    for (const assertion of assertions) {
      const failure = await failureOf(assertion, session);
      if (failure === undefined) continue;
      throw new PgarkError('drill-failed', `the assertion (${shown(assertion)}) ${failure}`, {
        hint: 'run it on the original: if it holds there, look at what the backup leaves out and when it was made; else correct the assertion',
      });
    }
  });
}

async function failureOf(assertion: Assertion, session: Session): Promise<string | undefined> {
  let rows: readonly Row[];
  try {
    await session.query(`BEGIN READ ONLY; SET LOCAL statement_timeout = ${TIMEOUT_MS}`);
    // The alias names the first column, whatever the query calls it; the line break ends a comment of the query's.
    const query = assertion.sql.trim().replace(/;$/, '');
    rows = await session.query(`SELECT ${RESULT} FROM (\n${query}\n) AS assertion (${RESULT}) LIMIT ${ROWS_MAX + 1}`);
    await session.query('ROLLBACK');
  } catch (error) {
    // A server that is gone says nothing of the assertion.
    if (!session.alive) throw error;
    await session.query('ROLLBACK');
    if (sqlStateOf(error)?.startsWith(INSUFFICIENT_RESOURCES) === true) {
      throw new PgarkError(
        'drill-impossible',
        `the assertion (${shown(assertion)}) cannot be checked here: ${wordsOf(error)}`,
        {
          cause: error,
          hint: 'give the drill more room by --work-dir (drill.work_dir), or more memory by drill.memory',
        },
      );
    }
    return `could not be checked: ${wordsOf(error)}`;
  }
  if (rows.length === 0) return 'gave no row';
  if (rows.length > ROWS_MAX) return `gave more than ${ROWS_MAX} rows`;
  return rows.every((row) => holds(assertion, row[RESULT])) ? undefined : `does not hold: ${expectationOf(assertion)}`;
}

/** The class of a full disk and of memory that is not to be had: they say nothing of a backup. */
const INSUFFICIENT_RESOURCES = '53';
/** Syntax and names, rights, a write, the time: other errors of a server may quote values of rows. */
const TELLABLE = /^(42|25006|57014|0A)/;

function wordsOf(error: unknown): string {
  const state = sqlStateOf(error);
  return state === undefined || TELLABLE.test(state) ? messageOf(error) : `the server refused it with ${state}`;
}

/** Numbers that JavaScript cannot hold exactly come as text. */
function holds({ min, max, equals }: Assertion, value: unknown): boolean {
  if (min === undefined && max === undefined && equals === undefined) return value === true;
  if (value === null || value === undefined) return false;
  const number = typeof value === 'number' || (typeof value === 'string' && value.trim() !== '') ? Number(value) : NaN;
  if (min !== undefined && !(number >= min)) return false;
  if (max !== undefined && !(number <= max)) return false;
  if (equals === undefined) return true;
  if (typeof equals === 'number') return number === equals;
  return typeof equals === 'string' && typeof value === 'number' ? `${value}` === equals : value === equals;
}

function expectationOf({ min, max, equals }: Assertion): string {
  const wanted = [
    ...(min === undefined ? [] : [`at least ${min}`]),
    ...(max === undefined ? [] : [`at most ${max}`]),
    ...(equals === undefined ? [] : [`${equals}`]),
  ];
  return `the result is not ${wanted.length === 0 ? 'true' : wanted.join(' and ')}`;
}

function shown({ sql }: Assertion): string {
  const line = sql.trim().replaceAll(/\s+/g, ' ');
  return line.length > SHOWN_CHARACTERS_MAX ? `${line.slice(0, SHOWN_CHARACTERS_MAX)}…` : line;
}
