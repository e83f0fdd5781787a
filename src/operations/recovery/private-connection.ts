import { PgarkError } from '../../common/errors.ts';
import { connect } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import type { OperationContext } from '../context.ts';

/** Nothing listens there: it is a part of the socket's name. */
export const PRIVATE_PORT = 5432;

/**
 * How to get into a restored server whose socket is in a folder: its bootstrap superuser may have any name, the likeliest first.
 * Error: `postgres-auth-failed`.
 */
export async function connectionWithin(
  folder: string,
  { database, users }: { readonly database: string; readonly users: readonly string[] },
  applicationName: string,
  { signal }: Pick<OperationContext, 'signal'>,
): Promise<ConnectionParameters> {
  let failure: unknown;
  for (const user of new Set(users)) {
    const connection: ConnectionParameters = { host: folder, port: PRIVATE_PORT, user, database, sslMode: 'disable' };
    try {
      const session = await connect(connection, { applicationName, signal });
      await session.close();
      return connection;
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure ?? new PgarkError('internal', 'no user was named');
}
