import { readFile } from 'node:fs/promises';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { Client, DatabaseError } from 'pg';
import type { ByteStream } from '../../common/bytes.ts';
import { assert, messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';
import { BulkSocket } from '../protocol/bulk-socket.ts';
import { type Converse, converse } from '../protocol/conversation.ts';
import { type CopyInOptions, copyIn } from '../protocol/copy-in.ts';
import { type CopyOut, type CopyOutOptions, copyOut } from '../protocol/copy-out.ts';
import {
  type ConnectionParameters,
  connectTimeoutOf,
  describeConnection,
  type SslMode,
} from './connection-parameters.ts';
import { passwordFromFile } from './password-file.ts';
import { refusePoolerAddress } from './pooler-host.ts';
import { TIMEOUTS_OFF_SQL } from './timeouts.ts';

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

export interface ConnectOptions {
  readonly applicationName: string;
  /** Ends the opening at once, with its own reason; what the session does afterwards is not its matter. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens a session as libpq would with the same parameters, but for addresses that are known to be a pooler's. Errors:
 * `postgres-…`, with a hint.
 */
export async function connect(parameters: ConnectionParameters, options: ConnectOptions): Promise<Session> {
  options.signal?.throwIfAborted();
  refusePoolerAddress(parameters);
  const password = parameters.password ?? (await passwordFromFile(parameters));
  let failure: unknown;
  for (const tls of tlsAttempts(parameters)) {
    const client = new Client({
      host: parameters.host,
      port: parameters.port,
      user: parameters.user,
      // pg asks its own password file when this is undefined; libpq's rules were applied above.
      password: password?.reveal() ?? '',
      database: parameters.database,
      application_name: options.applicationName,
      connectionTimeoutMillis: connectTimeoutOf(parameters) * 1_000,
      keepAlive: true,
      // TLS reads from the socket by itself, and gathers on its own.
      ...(tls ? { ssl: await tlsOptions(parameters) } : { ssl: false, stream: () => new BulkSocket() }),
      ...(parameters.options === undefined ? {} : { options: parameters.options }),
    });
    const session = new Session(client, parameters);
    const cut = (): void => void client.connection.stream.destroy();
    options.signal?.addEventListener('abort', cut, { once: true });
    try {
      options.signal?.throwIfAborted();
      await client.connect();
      session.prepare();
      await takeOnRole(session);
      return session;
    } catch (error) {
      await client.end().catch(() => {});
      options.signal?.throwIfAborted();
      failure = error;
      if (!mayTryOtherEncryption(parameters.sslMode, tls, error)) break;
    } finally {
      options.signal?.removeEventListener('abort', cut);
    }
  }
  throw classify(failure, parameters);
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

/** Whether each attempt uses TLS, in libpq's order for the mode. Unix sockets never do. */
function tlsAttempts(parameters: ConnectionParameters): readonly boolean[] {
  if (parameters.host.startsWith('/')) return [false];
  switch (parameters.sslMode) {
    case 'disable':
      return [false];
    case 'allow':
      return [false, true];
    case 'prefer':
      return [true, false];
    case 'require':
    case 'verify-ca':
    case 'verify-full':
      return [true];
    default:
      return parameters.sslMode satisfies never;
  }
}

async function tlsOptions(parameters: ConnectionParameters): Promise<TlsOptions> {
  const read = async (path: string | undefined): Promise<string | undefined> => {
    if (path === undefined || path === 'system') return undefined;
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      throw new PgarkError('config-unreadable', `cannot read the TLS file ${path}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  };
  const [ca, cert, key] = await Promise.all([
    read(parameters.sslRootCert),
    read(parameters.sslCert),
    read(parameters.sslKey),
  ]);
  // libpq verifies the chain in mode `require` too when a root certificate is given.
  const verifies = parameters.sslMode.startsWith('verify-') || (parameters.sslMode === 'require' && ca !== undefined);
  return {
    rejectUnauthorized: verifies,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(verifies && parameters.sslMode !== 'verify-full' ? { checkServerIdentity: () => undefined } : {}),
  };
}

function mayTryOtherEncryption(mode: SslMode, usedTls: boolean, error: unknown): boolean {
  if (mode === 'prefer') {
    return usedTls && (messageOf(error).includes('does not support SSL') || sqlStateOf(error) === '28000');
  }
  return mode === 'allow' && !usedTls && sqlStateOf(error) === '28000';
}

/** SQLSTATE of an error of the server, through one layer of wrapping. */
export function sqlStateOf(error: unknown): string | undefined {
  if (error instanceof DatabaseError) return error.code;
  if (error instanceof PgarkError && error.cause instanceof DatabaseError) return error.cause.code;
  return undefined;
}

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
]);

/** Turns what `pg` throws into a PgarkError whose message a person understands without the code. */
function classify(error: unknown, parameters: ConnectionParameters): PgarkError {
  if (error instanceof PgarkError) return error;
  const server = `${parameters.host}:${parameters.port}`;
  const state = sqlStateOf(error);
  const words = messageOf(error);
  if (state === '28P01' || state === '28000' || /SCRAM|password must be a string/.test(words)) {
    return new PgarkError('postgres-auth-failed', `${server} refuses user ${parameters.user}: ${words}`, {
      cause: error,
    });
  }
  if (state === '3D000') {
    return new PgarkError('postgres-database-missing', `${server} has no database "${parameters.database}"`, {
      cause: error,
    });
  }
  if (state === '42501') {
    return new PgarkError('postgres-privileges', `${describeConnection(parameters)}: ${words}`, { cause: error });
  }
  if (state === '57P03' || state === '57P01' || state === '53300') {
    return new PgarkError('postgres-unreachable', `${server} does not take connections: ${words}`, {
      cause: error,
      ...(state === '53300' ? { hint: 'raise max_connections, or free connections on the server' } : {}),
    });
  }
  if (state === '55000' && words.includes('not currently accepting connections')) {
    return new PgarkError('postgres-failed', `${describeConnection(parameters)}: ${words}`, {
      cause: error,
      hint: `somebody has closed it: ALTER DATABASE ${quoteIdentifier(parameters.database)} ALLOW_CONNECTIONS true opens it; a restore with --in-place does not need that`,
    });
  }
  if (/unsupported startup parameter/.test(words)) {
    // PgBouncer's words; PostgreSQL knows every parameter that is sent.
    return new PgarkError('postgres-pooler', `${server} is a connection pooler: ${words}`, { cause: error });
  }
  const code = systemCodeOf(error instanceof AggregateError ? error.errors[0] : error);
  if (
    UNREACHABLE.has(code ?? '') ||
    /timeout expired|Connection terminated|not queryable|does not support SSL/.test(words)
  ) {
    return new PgarkError('postgres-unreachable', `cannot reach PostgreSQL at ${server}: ${words}`, {
      cause: error,
      ...(words.includes('does not support SSL')
        ? { hint: 'the server has no TLS: use sslmode=prefer or disable, or switch TLS on there' }
        : {}),
    });
  }
  const suffix = state === undefined ? '' : ` (SQLSTATE ${state})`;
  return new PgarkError('postgres-failed', `PostgreSQL at ${server}: ${words}${suffix}`, { cause: error });
}

/** A SQL identifier, quoted always. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A SQL string literal that means the same whatever standard_conforming_strings says. */
export function quoteLiteral(text: string): string {
  const quoted = text.replaceAll("'", "''");
  return text.includes('\\') ? ` E'${quoted.replaceAll('\\', '\\\\')}'` : `'${quoted}'`;
}
