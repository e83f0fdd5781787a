import type { ByteStream } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { Random } from '../../common/random.ts';
import { withRetries } from '../../common/retry.ts';
import { connect, quoteLiteral, type Session } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';

export interface LoadSessionOptions {
  readonly connection: ConnectionParameters;
  readonly applicationName: string;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
}

const RETRY_POLICY = { retriesMax: 3, delayMs: 500, delayMsMax: 5_000 };
/** How often, and how long in milliseconds, the end of a lost session's server process is waited for. */
const SETTLE_TRIES_MAX = 150;
const SETTLE_PAUSE_MS = 200;

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

/** A session that loads data, transaction by transaction; one whose connection breaks is made anew. */
export class LoadSession {
  readonly #options: LoadSessionOptions;
  #session: Session | undefined;
  /** Number of the server's process whose connection broke. */
  #lostPid: number | undefined;

  constructor(options: LoadSessionOptions) {
    this.#options = options;
  }

  async close(): Promise<void> {
    await this.#session?.close();
  }

  /**
   * Writes rows in a transaction of their own, exactly once: where the connection breaks at the end of it, the server is
   * asked how it ended. `open` is called again for each attempt; its errors are not tried again. What `accept` throws of the
   * number of rows rolls them back.
   */
  copy(
    statement: (session: Session) => Promise<string>,
    open: () => ByteStream,
    accept: (rows: number) => void,
  ): Promise<void> {
    return this.#retrying(async (session) => {
      const sql = await statement(session);
      await session.query('BEGIN');
      const [transaction] = await session.query<{ xid: string }>('select pg_catalog.pg_current_xact_id()::text as xid');
      accept(await session.copyIn(sql, open(), { signal: this.#options.signal }));
      try {
        await session.query('COMMIT');
      } catch (error) {
        if (!isLost(error) || transaction === undefined) throw error;
        this.#lose(session);
        if (!(await this.#hasCommitted(transaction.xid))) throw error;
      }
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

  #retrying(work: (session: Session) => Promise<void>): Promise<void> {
    const { clock, random, signal, logger } = this.#options;
    return withRetries(
      async () => {
        const session = await this.#connected();
        try {
          await work(session);
        } catch (error) {
          // The server forgets what was begun, and nobody has to know in which state the session is.
          if (this.#session === session) this.#lose(session);
          await session.close();
          throw error;
        }
      },
      {
        policy: RETRY_POLICY,
        clock,
        random,
        signal,
        isRetryable: isLost,
        onRetry: (error, attempt) =>
          logger.warning('load.retried', `a connection of the load broke, attempt ${attempt}: ${String(error)}`),
      },
    );
  }

  async #connected(): Promise<Session> {
    if (this.#session?.alive === true) return this.#session;
    const { connection, applicationName, signal } = this.#options;
    const session = await connect(connection, { applicationName, signal });
    try {
      const calls = SETTINGS.map(([name, value]) => `pg_catalog.set_config('${name}', ${quoteLiteral(value)}, false)`);
      await session.query(`select ${calls.join(', ')}`);
      await this.#endLost(session);
    } catch (error) {
      await session.close();
      throw error;
    }
    this.#session = session;
    return session;
  }

  #lose(session: Session): void {
    this.#session = undefined;
    this.#lostPid = session.announcedPid;
  }

  /**
   * The server's end of a broken connection goes on until it looks for its client: it holds its locks, and keeps the
   * database from being renamed. One that cannot be ended is left to itself.
   */
  async #endLost(session: Session): Promise<void> {
    const { clock, signal, applicationName } = this.#options;
    for (let attempt = 0; this.#lostPid !== undefined && attempt < SETTLE_TRIES_MAX; attempt++) {
      const rows = await session.query(
        'select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity where pid = $1 and application_name = $2',
        [this.#lostPid, applicationName],
      );
      if (rows.length === 0) break;
      await clock.sleep(SETTLE_PAUSE_MS, signal);
    }
    this.#lostPid = undefined;
  }

  /** How a transaction ended whose COMMIT got no answer. Nobody may try again who does not know. Error: `restore-failed`. */
  async #hasCommitted(xid: string): Promise<boolean> {
    let status: string | null | undefined;
    let cause: unknown;
    try {
      await this.#retrying(async (session) => {
        const [row] = await session.query<{ status: string | null }>(
          'select pg_catalog.pg_xact_status($1::text::pg_catalog.xid8) as status',
          [xid],
        );
        status = row?.status;
      });
    } catch (error) {
      this.#options.signal.throwIfAborted();
      cause = error;
    }
    if (status === 'committed' || status === 'aborted') return status === 'committed';
    throw new PgarkError('restore-failed', `the server does not say whether its transaction ${xid} was committed`, {
      cause,
      hint: 'nothing was kept; see to the connection to the server and restore again',
    });
  }
}

/** Whether it was the connection that failed, and nothing that was sent over it. */
function isLost(error: unknown): boolean {
  return isPgarkError(error, 'postgres-unreachable');
}
