import type { Client } from 'pg';
import type { ByteStream } from '../../common/bytes.ts';
import { assert, messageOf, PgarkError } from '../../common/errors.ts';
import { type Converse, converse } from '../protocol/conversation.ts';
import { type CopyInOptions, copyIn } from '../protocol/copy-in.ts';
import { type CopyOut, type CopyOutOptions, copyOut } from '../protocol/copy-out.ts';
import type { ConnectionParameters } from './connection-parameters.ts';
import { type ConnectOptions, openClient } from './open-client.ts';
import { quoteIdentifier } from './quote.ts';
import { classify, sqlStateOf } from './server-error.ts';
import { TIMEOUTS_OFF_SQL } from './timeouts.ts';

export type { ConnectOptions } from './open-client.ts';
export { quoteIdentifier, quoteLiteral } from './quote.ts';
export { sqlStateOf } from './server-error.ts';

/** A row of a query: values as `pg` parses them (int8 and numeric stay text). */
export type Row = Record<string, unknown>;

const CLOSE_TIMEOUT_MS = 2_000;

/**
 * One SQL session. Queries run one after another; errors are PgarkErrors with the server's words and SQLSTATE. A COPY waits
 * for the queries before it; while it runs, none may be asked, nor another COPY.
 */
export class Session {
  readonly parameters: ConnectionParameters;
  readonly #client: Client;
  #closed = false;
  #copying = false;
  #announcedPid: number | undefined;
  /** Never rejects. */
  #prepared: Promise<unknown> = Promise.resolve();

  /** @internal Only `connect` makes sessions; the library's types do not depend on those of `pg`. */
  constructor(client: Client, parameters: ConnectionParameters) {
    this.#client = client;
    this.parameters = parameters;
    // A connection that breaks while idle must not end the process; the next query reports it.
    client.on('error', () => {
      this.#closed = true;
    });
    client.on('end', () => {
      this.#closed = true;
    });
    client.connection.once('backendKeyData', (message: { readonly processID: number }) => {
      this.#announcedPid = message.processID;
    });
  }

  /** Number of the server's process, as it was said at the login; a pooler says one of its own making. */
  get announcedPid(): number | undefined {
    return this.#announcedPid;
  }

  /** False once the connection is known to be gone. */
  get alive(): boolean {
    return !this.#closed && !this.#client.connection.stream.destroyed;
  }

  /**
   * @internal Called once, after the login; queries wait for it. Not where a pooler is in between, which may give its
   * session, and what is set there, to others. A session that this fails in goes on: with timeouts, or to a better error.
   */
  prepare(): void {
    this.#prepared = this.#client
      .query(`${TIMEOUTS_OFF_SQL} and pg_catalog.pg_backend_pid() = $1`, [this.#announcedPid ?? 0])
      .catch(() => undefined);
  }

  async query<T extends Row = Row>(sql: string, values: readonly unknown[] = []): Promise<T[]> {
    assert(!this.#copying, 'no query is asked while a COPY runs on the session');
    await this.#prepared;
    try {
      const result = await this.#client.query<T>(sql, [...values]);
      return result.rows;
    } catch (error) {
      throw classify(error, this.parameters);
    }
  }

  /**
   * Asks as the user who has logged in, and not as the role that the session works as: a role need not be allowed to see
   * or to end the user's other sessions.
   */
  async asUser<T>(ask: () => Promise<T>): Promise<T> {
    const setRole = setRoleSql(this.parameters);
    if (setRole === undefined) return ask();
    await this.query('SET ROLE NONE');
    const result = await ask();
    await this.query(setRole);
    return result;
  }

  /** Reads the rows of a `COPY … TO STDOUT` in text format without HEADER. */
  copyOut(sql: string, options: CopyOutOptions = {}): CopyOut {
    return copyOut(this.#converse(sql), options);
  }

  /** Writes rows by `COPY … FROM STDIN`; returns how many the server has counted. */
  copyIn(sql: string, source: ByteStream, options: CopyInOptions = {}): Promise<number> {
    return copyIn(this.#converse(sql), source, options);
  }

  #converse(sql: string): Converse {
    return async (answer) => {
      assert(!this.#copying, 'a session does one COPY at a time');
      this.#copying = true;
      await this.#prepared;
      const conversation = converse(this.#client, sql, answer, (error) => classify(error, this.parameters));
      const end = (): void => {
        this.#copying = false;
      };
      conversation.ended.then(end, end);
      return conversation;
    };
  }

  /** Says good-bye to the server; one that does not answer is left without. */
  async close(): Promise<void> {
    this.#closed = true;
    const force = setTimeout(() => this.#client.connection.stream.destroy(), CLOSE_TIMEOUT_MS);
    await this.#prepared;
    await this.#client.end().catch(() => {});
    clearTimeout(force);
  }
}

/**
 * Opens a session as libpq would with the same parameters, but for addresses that are known to be a pooler's. Errors:
 * `postgres-…`, with a hint.
 */
export async function connect(parameters: ConnectionParameters, options: ConnectOptions): Promise<Session> {
  const session = await openClient(parameters, options, (client) => new Session(client, parameters));
  session.prepare();
  try {
    await takeOnRole(session);
    return session;
  } catch (error) {
    await session.close();
    throw error;
  }
}

/** What makes a session work as the role of its parameters, if they have one. */
export function setRoleSql({ role }: ConnectionParameters): string | undefined {
  return role === undefined ? undefined : `SET ROLE ${quoteIdentifier(role)}`;
}

async function takeOnRole(session: Session): Promise<void> {
  const { parameters } = session;
  const setRole = setRoleSql(parameters);
  if (setRole === undefined) return;
  try {
    await session.query(setRole);
  } catch (error) {
    if (sqlStateOf(error) !== '22023' && sqlStateOf(error) !== '42501') throw error;
    throw new PgarkError(
      'postgres-privileges',
      `user ${parameters.user} cannot work as role ${parameters.role ?? ''}: ${messageOf(error)}`,
      { cause: error, hint: 'name a role that there is, and GRANT it to the user' },
    );
  }
}
