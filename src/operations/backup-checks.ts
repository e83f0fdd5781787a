import { connect } from '../postgres/client/connect.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { type OwnProperties, readPropertiesOf } from '../postgres/client/database-properties.ts';
import {
  checkReadPrivileges,
  type DatabaseFacts,
  readDatabaseFacts,
  readServerFacts,
  readUnreadTables,
  type ServerFacts,
} from '../postgres/client/preflight.ts';
import { chooseProgram, findPrograms, type InstalledProgram } from '../postgres/client/programs.ts';
import { inEnglish } from '../postgres/client/in-english.ts';
import { withSession } from '../postgres/client/with-session.ts';
import { describeUnread, unreadFields } from '../repository/unread-tables.ts';
import type { SpreadRun } from '../runs/run.ts';
import type { OperationContext } from './context.ts';

/** Everything that is known of the server before the first byte is dumped. */
export interface Preparation {
  readonly server: ServerFacts;
  readonly database: DatabaseFacts;
  readonly properties: OwnProperties | undefined;
  /** Tables whose rows are not dumped since this server has none of them. Default: none. */
  readonly unread?: readonly string[];
  /** What the backup is made by. */
  readonly client: { readonly program: string; readonly version: string };
}

/** The same for a dump of the content. */
export interface DumpPreparation extends Preparation {
  readonly pgDump: InstalledProgram;
  /** In English where the user may choose that, for programs whose words are read. */
  readonly connection: ConnectionParameters;
}

/**
 * What must be known of the server, the database that is dumped and the programs here; each check fails with one sentence and a hint. The
 * signal ends it at once, also while the server does not answer.
 */
export async function checkForDump(
  connection: ConnectionParameters,
  run: Pick<SpreadRun, 'id' | 'logger'>,
  context: Pick<OperationContext, 'signal'>,
): Promise<DumpPreparation> {
  const programs = findPrograms('pg_dump');
  // It may fail while nobody waits for it yet; its error is thrown when its turn comes.
  programs.catch(() => undefined);
  const { signal } = context;
  const login = { applicationName: `pgark check ${run.id}`, signal };
  return withSession(connect(connection, login), signal, async (session) => {
    const server = await readServerFacts(session);
    const database = await readDatabaseFacts(session, server);
    const properties = await readPropertiesOf(session, database.oid);
    await checkReadPrivileges(session);
    const unread = await readUnreadTables(session, server);
    const described = describeUnread(unreadFields(unread, false));
    if (described !== undefined) {
      run.logger.warning(
        'backup.rows_unread',
        `the backup will have no rows of ${described}: this is a standby, and has none of unlogged tables; back up the primary, or make them logged`,
      );
    }
    const pgDump = chooseProgram('pg_dump', await programs, server.major);
    return {
      server,
      database,
      properties,
      unread,
      pgDump,
      connection: await inEnglish(session, connection, login),
      client: { program: 'pg_dump', version: pgDump.version },
    };
  });
}
