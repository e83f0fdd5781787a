import { messageOf } from '../../common/errors.ts';
import { quoteIdentifier, type Session } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { connectForMaintenance } from '../../postgres/client/target-database.ts';
import type { Run } from '../../runs/run.ts';
import type { OperationContext } from '../context.ts';
import { dropUnfinished } from '../restore-into.ts';
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
    await dropLeft(guard, run);
    return await use({ connection, folder: undefined }, (made) => void roles.push(...made));
  } finally {
    await guard.close();
    await tidyUp(connection, roles, applicationName, run);
  }
}

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
      for (const role of roles) await dropRole(session, role, run);
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
    const mark = drillMark(run.id);
    const roles = await guard.query<{ name: string }>(
      `${ABANDONED_ROLES_SQL} and pg_catalog.shobj_description(oid, 'pg_authid') <> $1`,
      [mark],
    );
    for (const { name } of roles) await dropRole(guard, name, run);
  } catch (error) {
    run.logger.warning(
      'drill.cleanup_failed',
      `what killed drills have left could not be removed: ${messageOf(error)}`,
    );
  }
}

/** One that somebody has given something else to since then stays. */
async function dropRole(session: Session, name: string, run: Run): Promise<void> {
  try {
    await session.query(`DROP ROLE IF EXISTS ${quoteIdentifier(name)}`);
  } catch (error) {
    run.logger.warning('drill.role_kept', `role "${name}", which a drill made, cannot be dropped: ${messageOf(error)}`);
  }
}
