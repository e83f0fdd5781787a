import { setTimeout as delay } from 'node:timers/promises';
import { PgarkError } from '../../common/errors.ts';
import { connect, type Session } from './connect.ts';

/**
 * Turns of asking on two sessions who serves them, each twice running: a pooler that gives the session used last shows
 * itself by serving both with one, and one that goes round by serving the second question of the same session with
 * another, although in turns of one question each two sessions out of two would never change places.
 */
const ROUNDS = 4;
const QUESTIONS_RUNNING = 2;
/** A pooler without a free session lets the second one wait; pgark needs two at once for a backup. */
const ANSWER_TIMEOUT_MS = 10_000;

/**
 * Refuses a server behind a pooler that gives a session to another client after each transaction or statement (PgBouncer
 * with `pool_mode = transaction`, and its like): settings, locks and snapshots of one session would be those of another.
 * One that keeps sessions (`pool_mode = session`) will do.
 *
 * A pooler shows itself in the process number that it announced at the login, which is not the one of the server's process
 * (`servedBy`). Then a second session tells whether sessions are shared: both are served by one process, or by changing
 * ones. A direct connection costs nothing more. Error: `postgres-pooler`.
 */
export async function refuseSharedSessions(session: Session, servedBy: number): Promise<void> {
  if (session.announcedPid === servedBy) return;
  const second = await connect(session.parameters, { applicationName: 'pgark check' });
  try {
    let secondServedBy: number | undefined;
    for (let round = 0; round < ROUNDS; round++) {
      for (let question = 0; question < QUESTIONS_RUNNING; question++) {
        const pid = await withinTimeout(askPid(second), session);
        secondServedBy ??= pid;
        if (pid === servedBy || pid !== secondServedBy) throw shared(session);
      }
      for (let question = 0; question < QUESTIONS_RUNNING; question++) {
        if ((await askPid(session)) !== servedBy) throw shared(session);
      }
    }
  } finally {
    await second.close();
  }
}

async function askPid(session: Session): Promise<number> {
  const [row] = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
  return row?.pid ?? 0;
}

async function withinTimeout(answer: Promise<number>, { parameters }: Session): Promise<number> {
  const waiting = new AbortController();
  const timeout = delay(ANSWER_TIMEOUT_MS, undefined, { signal: waiting.signal }).catch(() => undefined);
  try {
    const pid = await Promise.race([answer, timeout]);
    if (pid !== undefined) return pid;
  } finally {
    waiting.abort();
  }
  // It ends with its session, which nobody waits for.
  answer.catch(() => undefined);
  throw new PgarkError(
    'postgres-pooler',
    `the connection pooler at ${parameters.host}:${parameters.port} has no second session to give; a backup needs two at once`,
  );
}

function shared({ parameters }: Session): PgarkError {
  return new PgarkError(
    'postgres-pooler',
    `${parameters.host}:${parameters.port} is a connection pooler that gives sessions to others between transactions (transaction pooling)`,
  );
}
