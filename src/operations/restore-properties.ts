import { messageOf } from '../common/errors.ts';
import type { LoadSource } from '../formats/load-source.ts';
import { connect, quoteIdentifier, type Session, sqlStateOf } from '../postgres/client/connect.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { chooseTablespace, propertyStatements, readOwnProperties } from '../postgres/client/database-properties.ts';
import { ownerOf } from '../postgres/client/target-database.ts';
import type { Run } from '../runs/run.ts';

/** The tablespace to make the database in, if it can be the one that is wanted; else a warning. */
export async function usableTablespace(
  session: Session,
  wanted: string | undefined,
  run: Run,
): Promise<string | undefined> {
  const { tablespace, problem } = await chooseTablespace(session, wanted);
  if (problem !== undefined) leftOut(run, `the database is made in the default tablespace: ${problem}`);
  return tablespace;
}

/**
 * Gives a database that was made anew what the original had besides its content. What the server or the role does not
 * allow (a role that is missing there, say) is a warning each: the data is there without it.
 */
export async function giveProperties(
  session: Session,
  like: LoadSource['like'],
  connection: ConnectionParameters,
  run: Run,
): Promise<void> {
  const properties = like?.properties;
  if (like === undefined || properties === undefined) return;
  const { database } = connection;
  const owner = await ownerOf(session, database);
  // An owner that has taken the place of the original one keeps the rights of owners.
  const revokeFrom = owner !== undefined && owner === like.owner ? [owner] : [];
  for (const { what, sql } of propertyStatements(properties, database, revokeFrom)) {
    await attempt(session, sql, `the database does not have ${what} of the original`, run);
  }
  if (properties.leftOut.length > 0) {
    leftOut(
      run,
      `the database does not have the ${properties.leftOut.join(' and the ')} of the original: they are not written down beside an encrypted backup, give them by hand`,
    );
  }
  if (properties.settings.length > 0) await resetIfClosed(session, connection, run);
}

/** A setting may name a library that this server does not have, and then nobody could connect. */
async function resetIfClosed(session: Session, connection: ConnectionParameters, run: Run): Promise<void> {
  try {
    const trial = await connect(connection, { applicationName: `pgark restore ${run.id}` });
    await trial.close();
  } catch (error) {
    if (sqlStateOf(error) !== '58P01') return;
    leftOut(run, `the database does not have the settings of the original: with them, ${messageOf(error)}`);
    const sql = `ALTER DATABASE ${quoteIdentifier(connection.database)} RESET ALL`;
    await attempt(session, sql, 'the settings of the database could not be taken back', run);
  }
}

/** What a database that is about to be replaced has, and what the new one gets only once it is in its place. */
export interface Standing {
  readonly isTemplate: boolean;
  readonly takesConnections: boolean;
}

export async function standingOf(session: Session, database: string): Promise<Standing> {
  const properties = await readOwnProperties(session, database);
  const closed = await session.query('select from pg_database where datname = $1 and not datallowconn', [database]);
  return { isTemplate: properties?.isTemplate === true, takesConnections: closed.length === 0 };
}

/** Only at the end: a template cannot be dropped, which a restore that fails would have to do. */
export async function markTemplate(session: Session, database: string, run: Run): Promise<void> {
  const sql = `ALTER DATABASE ${quoteIdentifier(database)} IS_TEMPLATE true`;
  await attempt(session, sql, 'the database is no template, as the original was', run);
}

/** Whoever has closed the old database to everybody opens the new one when it is time. */
export async function closeLikeOld(session: Session, loaded: string, current: string, run: Run): Promise<void> {
  await session.query(`ALTER DATABASE ${quoteIdentifier(loaded)} ALLOW_CONNECTIONS false`);
  const name = quoteIdentifier(current);
  run.logger.warning(
    'restore.closed',
    `database ${name} takes no connections, as the old one: ALTER DATABASE ${name} ALLOW_CONNECTIONS true opens it`,
  );
}

async function attempt(session: Session, sql: string, otherwise: string, run: Run): Promise<void> {
  try {
    await session.query(sql);
  } catch (error) {
    leftOut(run, `${otherwise}: ${messageOf(error)}`);
  }
}

function leftOut(run: Run, message: string): void {
  run.logger.warning('restore.property_left_out', message);
}
