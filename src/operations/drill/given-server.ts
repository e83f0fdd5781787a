import { messageOf } from '../../common/errors.ts';
import { quoteIdentifier, type Session, sqlStateOf } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { connectForMaintenance } from '../../postgres/client/target-database.ts';
import type { Run } from '../../runs/run.ts';
import type { OperationContext } from '../context.ts';
import { dropUnfinished } from '../half-loaded.ts';
import type { DrillWork } from './drill-request.ts';
import { settingUp } from './of-machine.ts';
import { drillMark, type ScratchPlace } from './scratch-needs.ts';

const PREFIX = 'pgark_drill_';

/**
 * Works in a database of its own on a server that is there; database and roles that were made for it are gone behind the work. What
 * killed drills have left there goes first: theirs is what bears the name of a run whose lock nobody holds.
 */
export async function withGivenDatabase<T>(
  server: ConnectionParameters,
  { applicationName, manifest }: DrillWork,
  run: Run,
  context: OperationContext,
  use: (place: ScratchPlace, onMade: (roles: readonly string[]) => void) => Promise<T>,
): Promise<T> {
  const connection = { ...server, database: `${PREFIX}${run.id.toLowerCase()}` };
  const { signal } = context;
  const guard = await settingUp(manifest.id, () => connectForMaintenance(connection, { applicationName, signal }));
  const roles: string[] = [];
  try {
    await settingUp(manifest.id, () =>
      guard.query('select pg_advisory_lock(hashtextextended($1, 0))', [drillMark(run.id)]),
    );
    // Roles that one drill has made serve the others that need them: they go when no drill is left.
    await settingUp(manifest.id, () => guard.query(`select pg_catalog.pg_advisory_lock_shared(${ALL_DRILLS})`));
    await dropLeft(guard, run);
    return await use({ connection, folder: undefined }, (made) => void roles.push(...made));
  } finally {
    await guard.close();
    await tidyUp(connection, roles, applicationName, run);
  }
}

/** The lock that every drill on a server shares. */
const ALL_DRILLS = `pg_catalog.hashtextextended('pgark drill: all', 0)`;
/** A session that has ended gives its lock back a moment later. */
const ALONE_MS_MAX = 5_000;

/** Does something while no other drill is on the server, nor begins; false where there is one. */
async function whileAlone(session: Session, waitMs: number, work: () => Promise<void>): Promise<boolean> {
  try {
    // A timeout of 0 would be none.
    await session.query(`set lock_timeout = ${Math.max(1, waitMs)}`);
    await session.query(`select pg_catalog.pg_advisory_lock(${ALL_DRILLS})`);
  } catch (error) {
    if (sqlStateOf(error) === LOCK_NOT_AVAILABLE) return false;
    throw error;
  } finally {
    if (session.alive) await session.query('set lock_timeout = 0');
  }
  try {
    await work();
  } finally {
    if (session.alive) await session.query(`select pg_catalog.pg_advisory_unlock(${ALL_DRILLS})`);
  }
  return true;
}

const LOCK_NOT_AVAILABLE = '55P03';

/** Its failure never hides that of the drill. Not bound to the run's signal: an interrupted run cleans up too. */
async function tidyUp(
  connection: ConnectionParameters,
  roles: readonly string[],
  applicationName: string,
  run: Run,
): Promise<void> {
  try {
    const session = await connectForMaintenance(connection, { applicationName });
    try {
      await dropUnfinished(session, connection.database, connection, run);
      const isAlone = await whileAlone(session, ALONE_MS_MAX, async () => {
        for (const role of roles) await dropRole(session, role, run);
        await dropLeftRoles(session, run);
      });
      if (!isAlone && roles.length > 0) {
        run.logger.info('drill.roles_shared', `another drill may use ${roles.join(', ')}, and drops them when it ends`);
      }
    } finally {
      await session.close();
    }
  } catch (error) {
    const what = `"${connection.database}" on ${connection.host} could not be dropped, the next drill there will try again`;
    run.logger.warning('drill.cleanup_failed', `${what}: ${messageOf(error)}`);
  }
}

/** By its name; one that was killed while it loaded, by what the restore has noted on it. */
const ABANDONED_DATABASES_SQL = `select name from (
    select datname as name, coalesce(
      upper(substring(datname from '^pgark_drill_([0-9a-z]{26})$')),
      substring(pg_catalog.shobj_description(oid, 'pg_database') from '^pgark restore of ([0-9A-Z]{26}), not complete$')) as run
    from pg_catalog.pg_database where datname ~ '^pgark_drill_') as ours
  where run is not null
    and pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('pgark drill of ' || run, 0))`;
const ABANDONED_ROLES_SQL = `select rolname as name from pg_catalog.pg_roles
  where pg_catalog.shobj_description(oid, 'pg_authid') ~ '^pgark drill of [0-9A-Z]{26}$'
    and pg_catalog.pg_try_advisory_xact_lock(
      pg_catalog.hashtextextended(pg_catalog.shobj_description(oid, 'pg_authid'), 0))`;

/** What is in use by a drill that lives is locked by it; locks taken here for a look end with the look. */
async function dropLeft(guard: Session, run: Run): Promise<void> {
  const own = `${PREFIX}${run.id.toLowerCase()}`;
  try {
    for (const { name } of await guard.query<{ name: string }>(ABANDONED_DATABASES_SQL)) {
      if (name.startsWith(own)) continue;
      run.logger.info('drill.leftover_removed', `dropping "${name}", which a drill that was killed has left`);
      await dropUnfinished(guard, name, guard.parameters, run);
    }
    await whileAlone(guard, 1, () => dropLeftRoles(guard, run));
  } catch (error) {
    run.logger.warning(
      'drill.cleanup_failed',
      `what killed drills have left could not be removed: ${messageOf(error)}`,
    );
  }
}

/** Of drills that have ended, whichever made them; to be called by one that is alone. */
async function dropLeftRoles(session: Session, run: Run): Promise<void> {
  const roles = await session.query<{ name: string }>(
    `${ABANDONED_ROLES_SQL} and pg_catalog.shobj_description(oid, 'pg_authid') <> $1`,
    [drillMark(run.id)],
  );
  for (const { name } of roles) await dropRole(session, name, run);
}

/** One that somebody has given something else to since then stays. */
async function dropRole(session: Session, name: string, run: Run): Promise<void> {
  try {
    await session.query(`DROP ROLE IF EXISTS ${quoteIdentifier(name)}`);
  } catch (error) {
    run.logger.warning('drill.role_kept', `role "${name}", which a drill made, cannot be dropped: ${messageOf(error)}`);
  }
}
