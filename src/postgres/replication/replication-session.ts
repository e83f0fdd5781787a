import type { Client } from 'pg';
import { assert, messageOf, PgarkError } from '../../common/errors.ts';
import type { ConnectionParameters } from '../client/connection-parameters.ts';
import { type ConnectOptions, openClient } from '../client/open-client.ts';
import { quoteIdentifier } from '../client/quote.ts';
import { classify, routineOf, sqlStateOf } from '../client/server-error.ts';
import { TIMEOUTS_OFF_SQL } from '../client/timeouts.ts';
import { type Converse, converse } from '../protocol/conversation.ts';

/** A row of a command's answer, by the names of its columns. All values are text as the server sent it. */
export type ReplicationRow = Readonly<Record<string, string | null>>;

/**
 * `physical`: the server's process belongs to no database, and only replication commands may be asked. `database`: it
 * belongs to one, which cannot be dropped or renamed meanwhile; SQL may be asked too, by the simple protocol.
 */
export type ReplicationMode = 'physical' | 'database';

export interface ReplicationOptions extends ConnectOptions {
  /**
   * Missing: `physical`, and `database` where pg_hba.conf lets this user into the database but not into replication. It is
   * so in containers of PostgreSQL's official image, for clients that are not in the container.
   */
  readonly mode?: ReplicationMode;
  /** Told of warnings and notices of the server, in its words. */
  readonly onNotice?: (text: string) => void;
}

const CLOSE_TIMEOUT_MS = 2_000;
/** Commands are answered at once; a server that does not is gone, or the connection to it. */
const ANSWER_MS_MAX = 60_000;

/** All values as text: identifiers and positions go beyond 2^53. */
const AS_TEXT = { getTypeParser: () => (value: string) => value };

/**
 * A connection in replication mode (https://www.postgresql.org/docs/current/protocol-replication.html). One command runs
 * at a time; errors are PgarkErrors with the server's words and SQLSTATE (`sqlStateOf`).
 */
export class ReplicationSession {
  readonly parameters: ConnectionParameters;
  readonly mode: ReplicationMode;
  /** Resolves when the connection is gone, whoever ended it. */
  readonly closed: Promise<void>;
  readonly #client: Client;
  #version = '';
  #closed = false;
  #busy = false;

  /** @internal Only `connectForReplication` makes sessions; the library's types do not depend on those of `pg`. */
  constructor(client: Client, parameters: ConnectionParameters, mode: ReplicationMode, options: ReplicationOptions) {
    this.#client = client;
    this.parameters = parameters;
    this.mode = mode;
    const closed = Promise.withResolvers<void>();
    this.closed = closed.promise;
    const end = (): void => {
      this.#closed = true;
      closed.resolve();
    };
    // A connection that breaks while idle must not end the process; the next command reports it.
    client.on('error', end);
    client.on('end', end);
    client.on('notice', (notice) => options.onNotice?.(notice.message ?? ''));
    client.connection.on(
      'parameterStatus',
      (status: { readonly parameterName: string; readonly parameterValue: string }) => {
        if (status.parameterName === 'server_version') this.#version = status.parameterValue;
      },
    );
  }

  /** Of the server, such as `15.18 (Debian 15.18-0+deb12u1)`; the login tells it. */
  get version(): string {
    return this.#version;
  }

  get major(): number {
    return Number.parseInt(this.#version, 10);
  }

  /** False once the connection is known to be gone. */
  get alive(): boolean {
    return !this.#closed && !this.#client.connection.stream.destroyed;
  }

  /**
   * Asks a command that answers with rows, or nothing. Where no answer comes in time, in milliseconds, the session is ended.
   * Default: a minute.
   */
  async query(command: string, answerMsMax = ANSWER_MS_MAX): Promise<readonly ReplicationRow[]> {
    assert(!this.#busy, 'a replication connection does one command at a time');
    this.#busy = true;
    let isLate = false;
    const patience = setTimeout(() => {
      isLate = true;
      this.destroy();
    }, answerMsMax);
    try {
      const { rows } = await this.#client.query<Record<string, string | null>>({ text: command, types: AS_TEXT });
      return rows;
    } catch (error) {
      if (isLate) throw this.#unanswered(command, answerMsMax, error);
      throw this.#explain(error);
    } finally {
      clearTimeout(patience);
      this.#busy = false;
    }
  }

  /** For commands whose answer is a stream: BASE_BACKUP, START_REPLICATION. */
  converse(command: string): Converse {
    return async (answer) => {
      assert(!this.#busy, 'a replication connection does one command at a time');
      this.#busy = true;
      const conversation = converse(this.#client, command, answer, (error) => this.#explain(error));
      const end = (): void => {
        this.#busy = false;
      };
      conversation.ended.then(end, end);
      return conversation;
    };
  }

  /** Says good-bye to the server; one that does not answer is left without. */
  async close(): Promise<void> {
    this.#closed = true;
    const force = setTimeout(() => this.#client.connection.stream.destroy(), CLOSE_TIMEOUT_MS);
    await this.#client.end().catch(() => {});
    clearTimeout(force);
  }

  /** Ends the connection at once; what is being asked fails. */
  destroy(): void {
    this.#closed = true;
    this.#client.connection.stream.destroy();
  }

  #unanswered(command: string, answerMsMax: number, cause: unknown): PgarkError {
    const { host, port } = this.parameters;
    const [word = ''] = command.trim().split(/\s/);
    return new PgarkError(
      'postgres-unreachable',
      `${host}:${port} has given no answer to ${word} for ${answerMsMax / 1_000} s`,
      { cause },
    );
  }

  #explain(error: unknown): PgarkError {
    return explain(error, this.parameters);
  }
}

/**
 * Opens a connection in replication mode, with the login of `connect`. Errors: `postgres-…`, with a hint; those of a role
 * without REPLICATION and of a server without a free WAL sender say so.
 */
export async function connectForReplication(
  parameters: ConnectionParameters,
  options: ReplicationOptions,
): Promise<ReplicationSession> {
  const { mode } = options;
  try {
    return await open(parameters, options, mode ?? 'physical');
  } catch (error) {
    const notLetIn = sqlStateOf(error) === '28000' && messageOf(error).includes('pg_hba.conf');
    if (mode === undefined && notLetIn) return open(parameters, options, 'database');
    throw error;
  }
}

async function open(
  parameters: ConnectionParameters,
  options: ReplicationOptions,
  mode: ReplicationMode,
): Promise<ReplicationSession> {
  const replication = mode === 'physical' ? 'true' : 'database';
  try {
    const session = await openClient(
      parameters,
      { ...options, replication },
      (client) => new ReplicationSession(client, parameters, mode, options),
    );
    // Settings of a role or a database count for sessions of a database only.
    if (mode === 'database') await session.query(TIMEOUTS_OFF_SQL).catch(() => []);
    return session;
  } catch (error) {
    options.signal?.throwIfAborted();
    throw explain(error, parameters);
  }
}

/** Where a server refuses a login for replication: InitPostgres, and the two that look at rights on slots, up to version 13 and since. */
const REFUSES_REPLICATION = /^(?:InitPostgres|check_permissions|CheckSlotPermissions)$/;

/** The errors that only replication has, in whatever language; all others are those of any session. */
function explain(error: unknown, parameters: ConnectionParameters): PgarkError {
  const state = sqlStateOf(error);
  const words = messageOf(error);
  const server = `${parameters.host}:${parameters.port}`;
  const cause = error instanceof PgarkError ? error.cause : error;
  const routine = routineOf(error) ?? '';
  if (state === '42501' && REFUSES_REPLICATION.test(routine)) {
    return new PgarkError('postgres-privileges', `role ${parameters.user} may not replicate from ${server}: ${words}`, {
      cause,
      hint: `ALTER ROLE ${quoteIdentifier(parameters.user)} REPLICATION`,
    });
  }
  if (state === '53300' && words.includes('max_wal_senders')) {
    // A name, and so in the words of every language.
    return new PgarkError('postgres-unreachable', `${server} has no free WAL sender: ${words}`, {
      cause,
      hint: 'raise max_wal_senders on the server (it wants a restart), or end a replication that is not needed',
    });
  }
  if (state === '55006' && routine.startsWith('ReplicationSlot')) {
    return new PgarkError('postgres-failed', `${server}: ${words} (SQLSTATE 55006)`, {
      cause,
      hint: 'somebody else receives over this slot: use another one (--slot, wal.slot); of a connection that broke the server lets go by itself after wal_sender_timeout',
    });
  }
  return classify(error, parameters);
}
