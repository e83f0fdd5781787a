import { messageOf } from '../common/errors.ts';
import type { LoadSource } from '../formats/load-source.ts';
import { connect, quoteIdentifier, quoteLiteral, type Session, sqlStateOf } from '../postgres/client/connect.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import {
  chooseTablespace,
  isForLoad,
  type OwnProperties,
  propertyStatements,
  readOwnProperties,
} from '../postgres/client/database-properties.ts';
import { ownerOf, subscriptionsOf } from '../postgres/client/target-database.ts';
import type { Run } from '../runs/run.ts';
import { applicationNameOf } from './restore-sessions.ts';

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
 * Gives a database that was made anew, and is to be loaded, those settings of the original by which what is computed
 * meanwhile may go: rows of materialised views, checks, the amounts of money. What is not to be had is a warning each, and so
 * are settings that nobody knows.
 */
export async function giveLoadSettings(
  session: Session,
  like: LoadSource['like'],
  database: string,
  run: Run,
): Promise<void> {
  const { settings = [], leftOut: unknown = [] } = like?.properties ?? {};
  for (const { what, sql } of propertyStatements({ settings: settings.filter(isForLoad) }, database, [])) {
    await attempt(session, sql, `the database does not have ${what} of the original`, run);
  }
  if (unknown.length === 0) return;
  const early = unknown.includes('settings')
    ? '; where checks or materialised views depend on settings, such as a time zone, make the database with them and restore into that'
    : '';
  leftOut(
    run,
    `the database does not have the ${unknown.join(' and the ')} of the original: they are not written down beside an encrypted backup, give them by hand${early}`,
  );
}

/** The same for a database that is to replace another. */
export async function takeOverLoadSettings(session: Session, current: string, loaded: string): Promise<void> {
  const settings = (await readOwnProperties(session, current))?.settings.filter(isForLoad) ?? [];
  for (const { sql } of propertyStatements({ settings }, loaded, [])) await session.query(sql);
}

/**
 * Gives a database that was loaded what the original had besides its content, but for the comment and the settings that it
 * was loaded under. What the server or the role does not allow (a role that is missing there, say) is a warning each: the
 * data is there without it.
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
  const missing = { ...withoutComment(properties), settings: properties.settings.filter((each) => !isForLoad(each)) };
  for (const { what, sql } of propertyStatements(missing, database, revokeFrom)) {
    await attempt(session, sql, `the database does not have ${what} of the original`, run);
  }
  if (properties.settings.length > 0) await resetIfClosed(session, connection, run);
}

/** A setting may name a library that this server does not have, and then nobody could connect. */
async function resetIfClosed(session: Session, connection: ConnectionParameters, run: Run): Promise<void> {
  try {
    const trial = await connect(connection, { applicationName: applicationNameOf(run) });
    await trial.close();
  } catch (error) {
    if (sqlStateOf(error) !== '58P01') return;
    leftOut(run, `the database does not have the settings of the original: with them, ${messageOf(error)}`);
    const sql = `ALTER DATABASE ${quoteIdentifier(connection.database)} RESET ALL`;
    await attempt(session, sql, 'the settings of the database could not be taken back', run);
  }
}

/** Gives a database that is to replace another what that one has, but for the comment. */
export async function takeOverProperties(session: Session, old: OwnProperties, loaded: string): Promise<void> {
  const owner = await ownerOf(session, loaded);
  const statements = propertyStatements(withoutComment(old), loaded, owner === undefined ? [] : [owner]);
  // It may have lost some of its settings since the other one was given them.
  await session.query(`ALTER DATABASE ${quoteIdentifier(loaded)} RESET ALL`);
  for (const { sql } of statements) await session.query(sql);
}

/** The database has a comment already, the mark of one that is not complete, which stays until it gets its name. */
function withoutComment<T extends { readonly comment?: string | undefined }>(properties: T): Omit<T, 'comment'> {
  const { comment: _, ...others } = properties;
  return others;
}

/** pg_dump writes subscriptions so that they are made without a look at their publisher, and disabled. */
export async function noteSubscriptions(session: Session, database: string, run: Run): Promise<void> {
  const names = await subscriptionsOf(session, database);
  if (names.length === 0) return;
  run.logger.warning(
    'restore.subscriptions_disabled',
    `subscriptions are restored disabled: ${names.join(', ')}; see to their slots on the publisher before ALTER SUBSCRIPTION … ENABLE`,
    { subscriptions: names },
  );
}

/** Only at the end: a template cannot be dropped, which a restore that fails would have to do. */
export async function markTemplate(session: Session, database: string, run: Run): Promise<void> {
  const sql = `ALTER DATABASE ${quoteIdentifier(database)} IS_TEMPLATE true`;
  await attempt(session, sql, 'the database is no template, as the original was', run);
}

/** The database these sessions are in may be of an encoding that lacks some of its characters. */
export async function giveComment(
  session: Session,
  database: string,
  comment: string | undefined,
  run: Run,
): Promise<void> {
  if (comment === undefined) return;
  const sql = `COMMENT ON DATABASE ${quoteIdentifier(database)} IS ${quoteLiteral(comment)}`;
  await attempt(session, sql, 'the database does not have the comment of the original', run);
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
