import { DatabaseError } from 'pg';
import { messageOf, PgarkError, type PgarkErrorOptions, systemCodeOf } from '../../common/errors.ts';
import { type ConnectionParameters, describeConnection } from './connection-parameters.ts';
import { quoteIdentifier } from './quote.ts';
import { type ServerError, withoutValues } from './without-data.ts';

/** SQLSTATE of an error of the server, through one layer of wrapping. */
export function sqlStateOf(error: unknown): string | undefined {
  if (error instanceof DatabaseError) return error.code;
  if (error instanceof PgarkError && error.cause instanceof DatabaseError) return error.cause.code;
  return undefined;
}

/** The function of the server's source that said an error, in no language, through one layer of wrapping. */
export function routineOf(error: unknown): string | undefined {
  const cause = error instanceof PgarkError ? error.cause : error;
  return cause instanceof DatabaseError ? cause.routine : undefined;
}

/**
 * What the server said with the error that something ended with, however often it was wrapped since, in no language. Undefined where it
 * said nothing, and for what pg_dump and pg_restore pass on, which is its words alone.
 */
export function serverErrorOf(error: unknown): ServerError | undefined {
  if (error instanceof DatabaseError) {
    return error.code === undefined ? undefined : { sqlState: error.code, routine: error.routine };
  }
  if (!(error instanceof Error)) return undefined;
  const { sqlState, routine } = error instanceof PgarkError ? error.details : {};
  if (typeof sqlState !== 'string') return serverErrorOf(error.cause);
  return { sqlState, routine: typeof routine === 'string' ? routine : undefined };
}

/** By which `serverErrorOf` finds it again. */
export function detailsOf({ sqlState, routine }: ServerError): NonNullable<PgarkErrorOptions['details']> {
  return { sqlState, ...(routine === undefined ? {} : { routine }) };
}

/** Those of the server's functions that look for a role by its name. */
const LOOKS_FOR_ROLE = /^get_(?:role_oid|role_tuple|rolespec_(?:oid|tuple|name))$/;

/** Whether the server misses a role: undefined_object is many a thing that is missing. */
export function isOfMissingRole({ sqlState, routine = '' }: ServerError): boolean {
  return sqlState === '42704' && LOOKS_FOR_ROLE.test(routine);
}

/** What says whether a session may use its database; the same words come from elsewhere, too. */
const CHECKS_DATABASE = 'CheckMyDatabase';

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
      ...(routineOf(error) === CHECKS_DATABASE ? { hint: grantConnect(parameters) } : {}),
    });
  }
  if (state === '57P03' || state === '57P01' || state === '53300') {
    return new PgarkError('postgres-unreachable', `${server} does not take connections: ${words}`, {
      cause: error,
      ...(state === '53300' ? { hint: 'raise max_connections, or free connections on the server' } : {}),
    });
  }
  if (state === '55000' && routineOf(error) === CHECKS_DATABASE) {
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
  return new PgarkError('postgres-failed', `PostgreSQL at ${server}: ${withoutValues(words, state)}${suffix}`, {
    cause: error,
  });
}
