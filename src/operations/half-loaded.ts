import { messageOf } from '../common/errors.ts';
import { connect, type Session } from '../postgres/client/connect.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { DROP_SUBSCRIPTIONS_SQL, findObject } from '../postgres/client/empty-database.ts';
import { NO_STANDBY_SQL } from '../postgres/client/timeouts.ts';
import { LostBackends } from '../postgres/client/lost-backends.ts';
import { connectForMaintenance, dropDatabase, subscriptionsOf } from '../postgres/client/target-database.ts';
import { withSession } from '../postgres/client/with-session.ts';
import type { Run } from '../runs/run.ts';
import type { OperationContext } from './context.ts';
import { applicationNameOf } from './restore-sessions.ts';

/** Its failure never hides that of the restore, and is told where the server stays. Not bound to the run's signal: an interrupted run cleans up too. */
export async function dropHalfLoaded(
  beside: string,
  {
    connection,
    maintenance,
    isServerThrownAway = false,
  }: {
    readonly connection: ConnectionParameters;
    readonly maintenance: Session;
    readonly isServerThrownAway?: boolean | undefined;
  },
  run: Run,
  { clock }: Pick<OperationContext, 'clock'>,
): Promise<void> {
  try {
    await inOwnSession(connection, run, async (session) => {
      await session.query(NO_STANDBY_SQL);
      // Its process may still be making the database.
      const lost = new LostBackends();
      if (!maintenance.alive) lost.add(maintenance);
      if (lost.some) await lost.end(session, { clock, applicationName: applicationNameOf(run) });
      await dropUnfinished(session, beside, connection, run);
    });
  } catch (error) {
    if (isServerThrownAway) return;
    run.logger.warning(
      'restore.cleanup_failed',
      `the half-loaded database "${beside}" could not be dropped, the next restore will try again: ${messageOf(error)}`,
    );
  }
}

/** The restore is done by now; an old database that stays is a warning. */
export async function dropReplaced(keepAs: string, connection: ConnectionParameters, run: Run): Promise<boolean> {
  try {
    await inOwnSession(connection, run, (session) => dropDatabase(session, keepAs));
    return true;
  } catch (error) {
    run.logger.warning(
      'restore.drop_old_failed',
      `the old database "${keepAs}" could not be dropped: ${messageOf(error)}`,
    );
    return false;
  }
}

async function inOwnSession(
  connection: ConnectionParameters,
  run: Run,
  work: (session: Session) => Promise<void>,
): Promise<void> {
  const session = await connectForMaintenance(connection, { applicationName: applicationNameOf(run) });
  try {
    await work(session);
  } finally {
    await session.close();
  }
}

/** Subscriptions that a dump made, which are disabled and hold no slot, would keep the database from being dropped. */
export async function dropUnfinished(
  maintenance: Session,
  name: string,
  connection: ConnectionParameters,
  run: Run,
): Promise<void> {
  if ((await subscriptionsOf(maintenance, name)).length > 0) {
    const inside = await connect({ ...connection, database: name }, { applicationName: applicationNameOf(run) });
    try {
      await inside.query(DROP_SUBSCRIPTIONS_SQL);
    } finally {
      await inside.close();
    }
  }
  await dropDatabase(maintenance, name);
}

/**
 * Drops what an earlier, killed restore of the same database left half-loaded: nobody uses it, and nobody holds the lock
 * that a restore holds while it lives.
 */
export async function dropLeftovers(
  maintenance: Session,
  prefix: string,
  connection: ConnectionParameters,
  run: Run,
): Promise<void> {
  const marked = await maintenance.query<{ name: string }>(
    `select datname as name from pg_database d
      where shobj_description(oid, 'pg_database') ~ '^pgark restore of [0-9A-Z]+, not complete$'
        and starts_with(datname, $1)
        and pg_try_advisory_xact_lock(hashtextextended(substring(shobj_description(oid, 'pg_database') from 'of ([0-9A-Z]+),'), 0))
        and not exists (select from pg_stat_activity a where a.datid = d.oid)`,
    [prefix],
  );
  // One that was killed before it had marked what it had just made: nothing is in there.
  const unmarked = await maintenance.query<{ name: string }>(
    `select datname as name from pg_database d
      where shobj_description(oid, 'pg_database') is null and datallowconn
        and starts_with(datname, $1) and substring(datname from length($1) + 1) ~ '^[0-9A-Z]{26}$'
        and pg_try_advisory_xact_lock(hashtextextended(substring(datname from length($1) + 1), 0))
        and not exists (select from pg_stat_activity a where a.datid = d.oid)`,
    [prefix],
  );
  for (const { name } of [...marked, ...(await emptyOnes(unmarked, connection, run))]) {
    run.logger.info('restore.leftover_dropped', `dropping "${name}", which a killed restore left`);
    await dropUnfinished(maintenance, name, connection, run);
  }
}

/** Where it cannot be looked into one, that one is left alone. */
async function emptyOnes(
  databases: readonly { readonly name: string }[],
  connection: ConnectionParameters,
  run: Run,
): Promise<readonly { readonly name: string }[]> {
  const empty: { readonly name: string }[] = [];
  for (const database of databases) {
    const opening = connect({ ...connection, database: database.name }, { applicationName: applicationNameOf(run) });
    const object = await withSession(opening, undefined, findObject).catch(() => 'something');
    if (object === undefined) empty.push(database);
  }
  return empty;
}
