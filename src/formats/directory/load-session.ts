import type { ByteStream } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { isPgarkError, messageOf, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { Random } from '../../common/random.ts';
import { withRetries } from '../../common/retry.ts';
import { connect, quoteLiteral, type Session } from '../../postgres/client/connect.ts';
import { untilAborted } from '../../postgres/client/with-session.ts';
import type { LostBackends } from '../../postgres/client/lost-backends.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';

export interface LoadSessionOptions {
  readonly connection: ConnectionParameters;
  readonly applicationName: string;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
}

/** How often a connection that broke is made anew. */
export const RECONNECTING = { retriesMax: 3, delayMs: 500, delayMsMax: 5_000 };

/** What pg_restore sets for rows (`_doSetFixedOutputState`), and how pg_dump writes times. */
const SETTINGS = [
  ['search_path', ''],
  ['DateStyle', 'ISO'],
  ['IntervalStyle', 'postgres'],
  ['xmloption', 'content'],
  ['row_security', 'off'],
  ['client_min_messages', 'warning'],
  ['default_transaction_read_only', 'off'],
  // Of names and of large objects' numbers; rows come in the encoding of the archive.
  ['client_encoding', 'UTF8'],
] as const;

/** The server gives no session, or no further one; `cause` says why. What was to be done has not been begun. */
export class SessionMissing extends Error {
  override readonly name = 'SessionMissing';
}

/** Rows that go into one transaction. */
export interface RowsToCopy {
  readonly statement: (session: Session) => Promise<string>;
  /** Called for each attempt; its errors are not tried again. */
  readonly open: () => ByteStream;
  /** What it throws of the number of rows rolls them back. */
  readonly accept: (rows: number) => void;
}

/** What is left of an attempt: the transaction whose COMMIT got no answer. Whoever tries again asks first how it ended. */
export interface Attempted {
  unsettled?: string | undefined;
}

/** A session that loads data, transaction by transaction; one whose connection breaks is made anew. */
export class LoadSession {
  readonly #options: LoadSessionOptions;
  readonly #lost: LostBackends;
  #session: Session | undefined;

  /** `lost` is shared with the sessions that work at the same time. */
  constructor(options: LoadSessionOptions, lost: LostBackends) {
    this.#options = options;
    this.#lost = lost;
  }

  async close(): Promise<void> {
    await this.#session?.close();
  }

  /**
   * Writes rows in a transaction of their own, exactly once: where the connection breaks at the end of it, the server is
   * asked how it ended. Errors: those of `RowsToCopy`, `SessionMissing`, `restore-failed` where the server cannot say how a
   * transaction ended, `postgres-…`.
   */
  copy({ statement, open, accept }: RowsToCopy, attempted: Attempted): Promise<void> {
    return this.#retrying(async (session) => {
      const { unsettled } = attempted;
      if (unsettled !== undefined && (await hasCommitted(session, unsettled))) return;
      attempted.unsettled = undefined;
      const sql = await statement(session);
      await session.query('BEGIN');
      const [transaction] = await session.query<{ xid: string }>('select pg_catalog.pg_current_xact_id()::text as xid');
      accept(await session.copyIn(sql, open(), { signal: this.#options.signal }));
      attempted.unsettled = transaction?.xid;
      await session.query('COMMIT');
      attempted.unsettled = undefined;
    });
  }

  /** Does it in a transaction, once more from its start where the connection breaks: twice has to be the same as once. */
  repeatable(work: (session: Session) => Promise<void>): Promise<void> {
    return this.#retrying(async (session) => {
      await session.query('BEGIN');
      await work(session);
      await session.query('COMMIT');
    });
  }

  /** Sees to it, as far as can be, that nothing is left on the server of sessions whose connections broke. */
  async tidyUp(): Promise<void> {
    if (!this.#lost.some) return;
    const { signal, logger } = this.#options;
    await this.#retrying(async () => {}).catch((error: unknown) => {
      signal.throwIfAborted();
      logger.warning('load.cleanup_failed', `a lost session of the load may go on for a while: ${messageOf(error)}`);
    });
  }

  async #retrying(work: (session: Session) => Promise<void>): Promise<void> {
    const { clock, random, signal, logger } = this.#options;
    let isOpening = true;
    try {
      await withRetries(
        async () => {
          isOpening = true;
          const session = await this.#connected();
          isOpening = false;
          try {
            await untilAborted(session, signal, () => work(session));
          } catch (error) {
            // The server forgets what was begun, and nobody has to know in which state the session is.
            await this.#lose(session);
            throw error;
          }
        },
        {
          policy: RECONNECTING,
          clock,
          random,
          signal,
          isRetryable: isLost,
          onRetry: (error, attempt) =>
            logger.warning(
              'load.retried',
              `a connection of the load broke, or was not given, attempt ${attempt}: ${String(error)}`,
            ),
        },
      );
    } catch (error) {
      if (!isOpening || !isLost(error)) throw error;
      throw new SessionMissing(error.message, { cause: error });
    }
  }

  /** Without anything left on the server of sessions that were lost. */
  async #connected(): Promise<Session> {
    // One that broke while nothing was asked of it.
    if (this.#session?.alive === false) await this.#lose(this.#session);
    const session = this.#session ?? (await this.#connect());
    this.#session = session;
    try {
      if (this.#lost.some) await this.#lost.end(session, this.#options);
      return session;
    } catch (error) {
      await this.#lose(session);
      throw error;
    }
  }

  async #connect(): Promise<Session> {
    const { connection, applicationName, signal } = this.#options;
    const session = await connect(connection, { applicationName, signal });
    try {
      const calls = SETTINGS.map(([name, value]) => `pg_catalog.set_config('${name}', ${quoteLiteral(value)}, false)`);
      await session.query(`select ${calls.join(', ')}`);
      return session;
    } catch (error) {
      await session.close();
      throw error;
    }
  }

  async #lose(session: Session): Promise<void> {
    this.#session = undefined;
    this.#lost.add(session);
    await session.close();
  }
}

/**
 * How a transaction ended whose COMMIT got no answer; its process is gone by now. Nobody may try again who does not know.
 * Error: `restore-failed`.
 */
async function hasCommitted(session: Session, xid: string): Promise<boolean> {
  let status: string | null | undefined;
  let cause: unknown;
  try {
    const [row] = await session.query<{ status: string | null }>(
      'select pg_catalog.pg_xact_status($1::text::pg_catalog.xid8) as status',
      [xid],
    );
    status = row?.status;
  } catch (error) {
    if (isLost(error)) throw error;
    cause = error;
  }
  if (status === 'committed' || status === 'aborted') return status === 'committed';
  throw unsettledError(xid, cause);
}

/** The end of a transaction is not to be known. */
export function unsettledError(xid: string, cause: unknown): PgarkError {
  return new PgarkError('restore-failed', `the server does not say whether its transaction ${xid} was committed`, {
    cause,
    hint: 'nothing was kept; see to the connection to the server and restore again',
  });
}

/** Whether it was the connection that failed, and nothing that was sent over it. */
export function isLost(error: unknown): error is PgarkError {
  return isPgarkError(error, 'postgres-unreachable');
}
