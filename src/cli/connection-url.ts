import { userInfo } from 'node:os';
import { PgarkError } from '../common/errors.ts';
import { Secret } from '../common/secret.ts';
import {
  type ConnectionConfig,
  ConnectionStringError,
  DEFAULT_PORT,
  DEFAULT_SSL_MODE,
  parseConnectionString,
} from '../config/connection.ts';

/**
 * A connection URL of the command line. What it leaves unsaid comes from PGPASSWORD and PGPASSFILE, so that a password
 * need not stand in the arguments, and from libpq's defaults. Error: `usage`, without the URL's text.
 */
export function connectionFromUrl(
  url: string,
  option: string,
  environment: Readonly<Record<string, string | undefined>>,
): ConnectionConfig {
  try {
    const parts = parseConnectionString(url);
    const user = parts.user ?? userInfo().username;
    const password = parts.password ?? (environment.PGPASSWORD ? new Secret(environment.PGPASSWORD) : undefined);
    const passFile = parts.passFile ?? (environment.PGPASSFILE || undefined);
    return {
      ...parts,
      host: parts.host ?? 'localhost',
      port: parts.port ?? DEFAULT_PORT,
      user,
      database: parts.database ?? user,
      sslMode: parts.sslMode ?? DEFAULT_SSL_MODE,
      ...(password === undefined ? {} : { password }),
      ...(passFile === undefined ? {} : { passFile }),
    };
  } catch (error) {
    if (!(error instanceof ConnectionStringError)) throw error;
    throw new PgarkError('usage', `${option} is no connection URL: ${error.message}`, {
      hint: 'write postgres://user@host:5432/database',
    });
  }
}
