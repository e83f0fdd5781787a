import { messageOf } from '../common/errors.ts';
import { connect, quoteIdentifier, type Session } from '../postgres/client/connect.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { defaultPrivilegesOf, EMPTY_DATABASE_SQL } from '../postgres/client/empty-database.ts';
import { NO_STANDBY_SQL } from '../postgres/client/timeouts.ts';
import type { Run } from '../runs/run.ts';
import { applicationNameOf } from './restore-sessions.ts';

/** What an empty database holds all the same. */
export interface Emptiness {
  readonly extensions: readonly string[];
  /** Statements that give the default privileges again. */
  readonly defaultPrivileges: readonly string[];
}

/** Of a database that is known to hold nothing of a user's. */
export async function readEmptiness(session: Session): Promise<Emptiness> {
  return { extensions: await extensionsOf(session), defaultPrivileges: await defaultPrivilegesOf(session) };
}

/**
 * Drops what a load has left that was not in one transaction, from a database that was empty before. Its failure never
 * hides that of the load. Not bound to the run's signal: an interrupted run cleans up too.
 */
export async function emptyAgain(connection: ConnectionParameters, before: Emptiness, run: Run): Promise<void> {
  try {
    const session = await connect(connection, { applicationName: applicationNameOf(run) });
    try {
      await session.query(NO_STANDBY_SQL);
      const added = (await extensionsOf(session)).filter((name) => !before.extensions.includes(name));
      await session.query('BEGIN');
      for (const name of added) await session.query(`DROP EXTENSION IF EXISTS ${quoteIdentifier(name)} CASCADE`);
      await session.query(EMPTY_DATABASE_SQL);
      for (const statement of before.defaultPrivileges) await session.query(statement);
      await session.query('COMMIT');
    } finally {
      await session.close();
    }
  } catch (error) {
    run.logger.warning(
      'restore.cleanup_failed',
      `database "${connection.database}", which was empty, could not be emptied again and holds a part of the backup: ${messageOf(error)}`,
    );
  }
}

async function extensionsOf(session: Session): Promise<readonly string[]> {
  const rows = await session.query<{ name: string }>('select extname as name from pg_catalog.pg_extension');
  return rows.map(({ name }) => name);
}
