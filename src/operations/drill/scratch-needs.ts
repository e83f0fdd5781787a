import { chown, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { messageOf, PgarkError } from '../../common/errors.ts';
import type { LoadSource } from '../../formats/load-source.ts';
import type { ServerRequirements } from '../../formats/server-requirements.ts';
import { quoteIdentifier, quoteLiteral, type Session, sqlStateOf } from '../../postgres/client/connect.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { connectForMaintenance } from '../../postgres/client/target-database.ts';
import type { Run } from '../../runs/run.ts';
import type { OperationContext } from '../context.ts';
import { type GlobalRole, rolesIn } from '../global-roles.ts';
import { isForMissingRole } from '../missing-roles.ts';
import { globalsOf } from '../show.ts';
import type { DrillWork } from './drill-request.ts';
import { encodingOfNames, foreignNames, UNTRANSLATABLE_CHARACTER } from './names-in-bytes.ts';
import { settingUp } from './of-machine.ts';
import type { WorkFolder } from '../work-folder.ts';

const NAMES_SHOWN_MAX = 10;

/** Where a dump is to be loaded, and what it may have there. */
export interface ScratchPlace {
  readonly connection: ConnectionParameters;
  /** Of a server of ours: whatever is missing is made in it. */
  readonly folder: WorkFolder | undefined;
}

/**
 * Gives a scratch server what a dump needs besides its own content: roles, which nobody can log in as, and in a server of ours
 * tablespaces. Error: `drill-impossible`, naming the extensions that the server does not have.
 */
export async function provideNeeds(
  source: LoadSource,
  place: ScratchPlace,
  work: DrillWork,
  run: Run,
  context: OperationContext,
): Promise<readonly string[]> {
  const known = await rolesKnown(work, run, context);
  // To read SQL text for what it needs takes as long as to load it; the globals know the roles, and most dumps need no more.
  const needs = source.format === 'directory' || known === undefined ? await source.requirements() : undefined;
  const roles = new Map<string, GlobalRole>(known?.map((role) => [role.name, role]));
  const owner = work.manifest.database.owner;
  for (const name of [...(needs?.roles ?? []), ...(owner === undefined ? [] : [owner])]) {
    if (!roles.has(name)) roles.set(name, { name, isSuperuser: false });
  }
  return withMaintenance(place, work, context, async (session) => {
    if (needs !== undefined) await provideRest(needs, place, session);
    return makeRoles([...roles.values()], place, session, run);
  });
}

/**
 * The same for what a load has found to be missing, which ended with `failure`. Resolves with undefined where nothing is. Lines of SQL
 * text may only look like statements: a tablespace of a server that is not ours has to be what the load failed for.
 */
export async function provideMissing(
  source: LoadSource,
  place: ScratchPlace,
  work: DrillWork,
  run: Run,
  context: OperationContext,
  failure: PgarkError,
): Promise<readonly string[] | undefined> {
  const needs = await source.requirements();
  const named = new Set([...needs.tablespaces].filter((name) => failure.message.includes(name)));
  const needed = place.folder === undefined ? { ...needs, tablespaces: named } : needs;
  return withMaintenance(place, work, context, async (session) => {
    const madeTablespaces = await provideRest(needed, place, session);
    const roles = [...needs.roles].map((name) => ({ name, isSuperuser: false }));
    if (place.folder === undefined) await refuseOtherBytes(session, [...needs.roles], work, failure);
    const made = await makeRoles(roles, place, session, run);
    return made.length + madeTablespaces === 0 ? undefined : made;
  });
}

/** Errors: `drill-impossible` for roles that cannot be made and that the load failed for; the failure itself, if for something else. */
async function refuseOtherBytes(
  session: Session,
  roles: readonly string[],
  { manifest }: DrillWork,
  failure: PgarkError,
): Promise<void> {
  const { serverEncoding, missing } = await foreignNames(session, roles, encodingOfNames(manifest));
  if (missing.length === 0) return;
  if (!isForMissingRole(failure)) throw failure;
  throw new PgarkError(
    'drill-impossible',
    `roles cannot be made in ${manifest.database.encoding} on a server of encoding ${serverEncoding}: ${shown(missing)}`,
    {
      cause: failure,
      hint: 'drill in a server of its own, without --to-url, which is made in the encoding of the backup',
    },
  );
}

async function withMaintenance<T>(
  { connection }: ScratchPlace,
  { applicationName, manifest }: DrillWork,
  { signal }: OperationContext,
  ask: (session: Session) => Promise<T>,
): Promise<T> {
  return settingUp(manifest.id, async () => {
    const session = await connectForMaintenance(connection, { applicationName, signal });
    try {
      return await ask(session);
    } finally {
      await session.close();
    }
  });
}

/** Roles of the server that was backed up; undefined where that was not recorded, or cannot be read. */
async function rolesKnown(
  { store, manifest, keys }: DrillWork,
  run: Run,
  { signal }: OperationContext,
): Promise<readonly GlobalRole[] | undefined> {
  try {
    const globals = await globalsOf(store, manifest, { signal });
    return globals && (await rolesIn(globals, { store, keys, signal }));
  } catch (error) {
    signal.throwIfAborted();
    run.logger.warning('drill.globals_unread', `the roles of the server cannot be read: ${messageOf(error)}`);
    return undefined;
  }
}

/** Resolves with the names of those that were made. */
async function makeRoles(
  roles: readonly GlobalRole[],
  { folder }: ScratchPlace,
  session: Session,
  run: Run,
): Promise<readonly string[]> {
  const rows = await session.query<{ name: string }>('select rolname as name from pg_catalog.pg_roles');
  const there = new Set(rows.map(({ name }) => name));
  const made: string[] = [];
  for (const { name, isSuperuser } of roles) {
    if (there.has(name) || name.startsWith('pg_')) continue;
    // Some objects can only belong to superusers. On a server that is not ours nobody is made one.
    const attributes = isSuperuser && folder !== undefined ? 'NOLOGIN SUPERUSER' : 'NOLOGIN';
    const role = quoteIdentifier(name);
    const statements = [
      `CREATE ROLE ${role} ${attributes}`,
      `COMMENT ON ROLE ${role} IS ${quoteLiteral(drillMark(run.id))}`,
      // Who may make roles is no member of them by that, and only members may give them something.
      ...(folder === undefined ? [`GRANT ${role} TO CURRENT_USER`] : []),
    ];
    try {
      await session.query(statements.join('; '));
      made.push(name);
    } catch (error) {
      const sqlState = sqlStateOf(error) ?? '';
      // Another drill on this server, or anybody else, has made it since then.
      if (!MADE_MEANWHILE.has(sqlState) && !NO_NAMES.has(sqlState)) throw error;
    }
  }
  return made;
}

/** duplicate_object; unique_violation where it was made at the very moment. */
const MADE_MEANWHILE: ReadonlySet<string> = new Set(['42710', '23505']);

/** What no role can be named, and no dump names: a reserved_name; what the encoding of the dump does not have. */
const NO_NAMES: ReadonlySet<string> = new Set(['42939', UNTRANSLATABLE_CHARACTER]);

/** By which what a drill made on a server that is not ours is found again. */
export function drillMark(runId: string): string {
  return `pgark drill of ${runId}`;
}

/** Resolves with the number of tablespaces that were made. Error: `drill-impossible`. */
async function provideRest(
  { extensions, tablespaces }: ServerRequirements,
  { folder }: ScratchPlace,
  session: Session,
): Promise<number> {
  await refuseMissingExtensions(session, [...extensions]);
  const rows = await session.query<{ name: string }>('select spcname as name from pg_catalog.pg_tablespace');
  const there = new Set(rows.map(({ name }) => name));
  const missing = [...tablespaces].filter((name) => !there.has(name));
  if (folder === undefined) {
    if (missing.length === 0) return 0;
    throw new PgarkError('drill-impossible', `the server does not have these tablespaces: ${shown(missing)}`, {
      hint: 'create them there (CREATE TABLESPACE), or drill in a server of its own, without --to-url, where they are made',
    });
  }
  for (const [index, name] of missing.entries()) {
    const location = path.join(folder.path, `tablespace-${there.size + index}`);
    await mkdir(location, { mode: 0o700 });
    if (folder.account !== undefined) await chown(location, folder.account.uid, folder.account.gid);
    await session.query(`CREATE TABLESPACE ${quoteIdentifier(name)} LOCATION ${quoteLiteral(location)}`);
  }
  return missing.length;
}

/** Error: `drill-impossible`, naming all that the server cannot have. */
export async function refuseMissingExtensions(session: Session, extensions: readonly string[]): Promise<void> {
  if (extensions.length === 0) return;
  const rows = await session.query<{ name: string }>(
    'select name from unnest($1::text[]) as wanted (name) where not exists (select from pg_catalog.pg_available_extensions a where a.name = wanted.name)',
    [extensions],
  );
  if (rows.length === 0) return;
  const names = shown(rows.map(({ name }) => name));
  throw new PgarkError('drill-impossible', `the scratch server does not have these extensions: ${names}`, {
    hint: 'install their packages for the server’s major version beside its programs, or drill into a server that has them: --to-url URL',
  });
}

function shown(names: readonly string[]): string {
  const more = names.length > NAMES_SHOWN_MAX ? ` and ${names.length - NAMES_SHOWN_MAX} more` : '';
  return names.slice(0, NAMES_SHOWN_MAX).join(', ') + more;
}
