import { DatabaseError } from 'pg';
import { messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';
import { type ConnectionParameters, describeConnection } from './connection-parameters.ts';
import { quoteIdentifier } from './quote.ts';
import { withoutValues } from './without-data.ts';

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

function grantConnect({ database, user }: ConnectionParameters): string {
  return `GRANT CONNECT ON DATABASE ${quoteIdentifier(database)} TO ${quoteIdentifier(user)}`;
}

/** Turns what `pg` throws into a PgarkError whose message a person understands without the code. */
export function classify(error: unknown, parameters: ConnectionParameters): PgarkError {
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
    return new PgarkError('postgres-privileges', `${describeConnection(parameters)}: ${words}`, {
      cause: error,
      ...(words.startsWith('permission denied for database') ? { hint: grantConnect(parameters) } : {}),
    });
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
  return new PgarkError('postgres-failed', `PostgreSQL at ${server}: ${withoutValues(words)}${suffix}`, {
    cause: error,
  });
}
