import { asPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { StoredGlobals } from '../../formats/globals/stored-globals.ts';
import type { Session } from '../../postgres/client/connect.ts';
import { describeConnection } from '../../postgres/client/connection-parameters.ts';
import { readServerFacts } from '../../postgres/client/preflight.ts';
import { missingDirectories, readServerGlobals, rolesOfOtherValidity } from '../../postgres/client/server-globals.ts';
import { planGlobals } from './plan-globals.ts';
import type { GlobalsChoice, GlobalsStatement, PlannedObject } from './planned-object.ts';

/** What has become of a planned object. */
export interface LoadedObject extends PlannedObject {
  /** Of each statement that has failed; the others are done. */
  readonly failures: readonly { readonly what: string; readonly error: PgarkError }[];
}

/**
 * Compares what was stored with what the server has. Nothing is changed. Errors: `postgres-…`: also for a standby, a role that may
 * not make what is missing, and tablespaces without their directories.
 */
export async function compareGlobals(
  session: Session,
  stored: StoredGlobals,
  choice: GlobalsChoice,
): Promise<readonly PlannedObject[]> {
  const { major, inRecovery } = await readServerFacts(session);
  const { parameters } = session;
  if (inRecovery) {
    throw new PgarkError('postgres-failed', `${describeConnection(parameters)} is a standby, which takes no changes`, {
      hint: 'name its primary, or promote it first',
    });
  }
  const server = await readServerGlobals(session, major);
  const objects = planGlobals(
    stored,
    {
      server,
      otherValidity: await rolesOfOtherValidity(
        session,
        stored.roles.filter(({ name }) => server.roles.has(name)),
      ),
      missingDirectories: await missingDirectories(
        session,
        stored.tablespaces.filter(({ name }) => !server.tablespaces.has(name)).map(({ location }) => location),
      ),
    },
    choice,
  );
  const makesRoles = objects.some(({ kind, action }) => kind === 'role' && action === 'create');
  if (makesRoles && !server.mayCreateRoles) {
    throw new PgarkError('postgres-privileges', `role ${server.self} may not create roles on ${parameters.host}`, {
      hint: 'connect as a superuser, or as a role with CREATEROLE',
    });
  }
  refuseMissingDirectories(objects, parameters.host);
  return objects;
}

/** Tables that lie in one of them could not be restored either. Error: `postgres-settings`. */
function refuseMissingDirectories(objects: readonly PlannedObject[], host: string): void {
  const refused = objects.filter(({ kind, action }) => kind === 'tablespace' && action === 'refuse');
  if (refused.length === 0) return;
  const words = refused.map(({ name, notes }) => `"${name}": ${notes.join(', ')}`).join('; ');
  throw new PgarkError('postgres-settings', `tablespaces cannot be made on ${host}: ${words}`, {
    hint: 'make the directories there, empty and belonging to the user that the server runs as; or leave tablespaces out with --no-tablespaces',
  });
}

/**
 * Nothing of a statement comes into the server's log by its own settings, or into what extensions keep of statements, as far as
 * the role may say so: a password may be in it.
 * What others have made the server read-only by is not meant for a restore.
 */
const PREPARATIONS = [
  'SET default_transaction_read_only = off',
  'SET log_statement = none',
  'SET log_min_duration_statement = -1',
  'SET log_min_duration_sample = -1',
  'SET log_transaction_sample_rate = 0',
  'SET log_min_error_statement = panic',
  // Both are harmless where the extension is not there.
  'SET pg_stat_statements.track_utility = off',
  'SET pgaudit.log = none',
];

/**
 * Makes what is planned, statement by statement: one that fails is told of, and the others are made all the same. What belongs to
 * a database comes as a whole or not at all, since its rights are taken away before they are given. Errors: `postgres-…` only where the connection is lost, or the signal's reason.
 */
export async function loadGlobals(
  session: Session,
  planned: readonly PlannedObject[],
  { logger, signal }: { readonly logger: Logger; readonly signal: AbortSignal },
): Promise<readonly LoadedObject[]> {
  for (const sql of PREPARATIONS) await session.query(sql).catch(() => []);
  const loaded: LoadedObject[] = [];
  for (const object of planned) {
    const failures: { what: string; error: PgarkError }[] = [];
    const isWhole = object.kind === 'database' && object.statements.length > 0;
    if (isWhole) await session.query('BEGIN');
    for (const [index, statement] of object.statements.entries()) {
      signal.throwIfAborted();
      const error = await attempt(session, statement);
      if (error === undefined) continue;
      if (!session.alive) throw error;
      failures.push({ what: statement.what, error });
      logger.error('globals.part_failed', `${describeObject(object, statement.what)}: ${error.message}`, {
        kind: object.kind,
        name: object.name,
      });
      // What belongs to it cannot be made without it.
      if (isWhole || (index === 0 && object.action === 'create')) break;
    }
    if (isWhole) await session.query(failures.length === 0 ? 'COMMIT' : 'ROLLBACK');
    loaded.push({ ...object, failures });
  }
  return loaded;
}

/** `role "app", the comment` */
export function describeObject({ kind, name }: PlannedObject, what = ''): string {
  return `${kind} "${name}"${what === '' ? '' : `, ${what}`}`;
}

async function attempt(session: Session, { sql }: GlobalsStatement): Promise<PgarkError | undefined> {
  try {
    await session.query(sql.reveal());
    return undefined;
  } catch (thrown) {
    return asPgarkError(thrown);
  }
}
