import { isPgarkError } from '../../common/errors.ts';
import { connect, type Session, sqlStateOf } from './connect.ts';
import type { ConnectionParameters } from './connection-parameters.ts';
import { connectForMaintenance } from './target-database.ts';
import { withSession } from './with-session.ts';

/** A database as the server lists it to everybody. */
export interface ListedDatabase {
  readonly name: string;
  readonly isTemplate: boolean;
  /** False for template0 and its like, and for what an interrupted DROP DATABASE has left. */
  readonly allowsConnections: boolean;
  /** Whether this role has the right to connect. pg_hba.conf may still refuse it. */
  readonly mayConnect: boolean;
}

/**
 * Every database of a server, by name. The server is asked through the connection's own database or, if that is not there
 * or not for this role, through one that every server has. The signal ends it at once. Errors: `postgres-…`.
 */
export async function listDatabases(
  parameters: ConnectionParameters,
  options: { readonly applicationName: string; readonly signal?: AbortSignal | undefined },
): Promise<ListedDatabase[]> {
  return withSession(connectSomewhere(parameters, options), options.signal, (session) =>
    // -2 marks a database whose DROP was cut short (PostgreSQL 11.21, 12.16, 13.12, 14.9, 15.4, 16 and newer).
    session.query<ListedDatabase & Record<string, unknown>>(
      `select datname as name, datistemplate as "isTemplate", datallowconn and datconnlimit <> -2 as "allowsConnections",
              has_database_privilege(oid, 'CONNECT') as "mayConnect"
         from pg_database order by datname collate "C"`,
    ),
  );
}

/** In the connection's own database, or in one that every server has where that is not there or not for this role. */
export async function connectSomewhere(
  parameters: ConnectionParameters,
  options: { readonly applicationName: string; readonly signal?: AbortSignal | undefined },
): Promise<Session> {
  try {
    return await connect(parameters, options);
  } catch (error) {
    const closed = sqlStateOf(error) === '42501' || sqlStateOf(error) === '55000';
    if (!closed && !isPgarkError(error, 'postgres-database-missing')) throw error;
    return connectForMaintenance(parameters, options);
  }
}
