import { readFile } from 'node:fs/promises';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { Client } from 'pg';
import { messageOf, PgarkError } from '../../common/errors.ts';
import { BulkSocket } from '../protocol/bulk-socket.ts';
import { type ConnectionParameters, connectTimeoutOf, type SslMode } from './connection-parameters.ts';
import { passwordFromFile } from './password-file.ts';
import { refusePoolerAddress } from './pooler-host.ts';
import { classify, sqlStateOf } from './server-error.ts';

export interface ConnectOptions {
  readonly applicationName: string;
  /** Ends the opening at once, with its own reason; what the session does afterwards is not its matter. */
  readonly signal?: AbortSignal | undefined;
}

/** What the login asks for besides: `true` for physical replication, `database` for replication and SQL. */
type Replication = 'true' | 'database';

/**
 * @internal The library's types do not depend on those of `pg`.
 *
 * Logs in as libpq would with the same parameters, but for addresses that are known to be a pooler's. `wrap` is given the
 * client of each attempt before it connects, and what it makes of the one that got in is returned. Errors: `postgres-…`,
 * with a hint.
 */
export async function openClient<T>(
  parameters: ConnectionParameters,
  options: ConnectOptions & { readonly replication?: Replication },
  wrap: (client: Client) => T,
): Promise<T> {
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
      ...(options.replication === undefined ? {} : { replication: options.replication }),
    });
    const session = wrap(client);
    const cut = (): void => void client.connection.stream.destroy();
    options.signal?.addEventListener('abort', cut, { once: true });
    try {
      options.signal?.throwIfAborted();
      await client.connect();
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
