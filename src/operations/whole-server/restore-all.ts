import { asPgarkError, PgarkError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import { shellWord } from '../../common/shell-word.ts';
import type { StoredDatabase } from '../../formats/globals/stored-database.ts';
import type { LeftOut } from '../../formats/plain/left-out.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { cataloguedValue } from '../../postgres/client/database-properties.ts';
import { type ConnectionParameters, describeConnection } from '../../postgres/client/connection-parameters.ts';
import { listDatabases } from '../../postgres/client/list-databases.ts';
import type { OperationContext } from '../context.ts';
import type { Place } from '../find-across.ts';
import type { AroundRestore } from '../restore-around.ts';
import { restore, type RestoreRequest } from '../restore.ts';
import { type ChosenBackup, chooseBackups, type MomentSelector } from './choose-backups.ts';
import { findGlobals, type FoundGlobals } from './find-globals.ts';
import type { LoadedObject } from './load-globals.ts';
import type { GlobalsChoice } from './planned-object.ts';
import {
  GlobalsPartlyRestored,
  hasFailed,
  restoreFoundGlobals,
  type RestoreGlobalsOutcome,
} from './restore-globals.ts';

export interface RestoreAllRequest {
  readonly places: readonly Place[];
  /** Default: the only one that the storage has backups of. */
  readonly source: string | undefined;
  readonly selector: MomentSelector;
  /** Databases that are not restored. */
  readonly without: readonly string[];
  /** Of the server; its database need not be there. */
  readonly connection: ConnectionParameters;
  readonly keys: DecryptionKeys;
  /** How roles and tablespaces are loaded; undefined: not at all. */
  readonly globals: GlobalsChoice | undefined;
  /** As of a restore of a single database. */
  readonly verifyFirst: boolean | undefined;
  readonly leaveOut: LeftOut;
  readonly jobs?: number;
  readonly analyse: boolean;
  /** For what comes from this storage. */
  readonly around: (storage: string) => AroundRestore | undefined;
  readonly planOnly: boolean;
}

export interface RestoredDatabase extends ChosenBackup {
  readonly state: 'planned' | 'restored' | 'failed';
  readonly plan: readonly string[];
  readonly durationMs: number | undefined;
  readonly error: PgarkError | undefined;
}

export interface RestoreAllOutcome {
  readonly source: string;
  readonly done: boolean;
  /** Undefined where none are stored, or none were wanted. */
  readonly globals: RestoreGlobalsOutcome | undefined;
  readonly databases: readonly RestoredDatabase[];
  /** Databases whose oldest backup is younger than the time that was asked for. */
  readonly younger: readonly string[];
  readonly durationMs: number;
}

/** Every server has these; they are empty, as a rule, and cannot be made beside themselves. */
const STANDING = new Set(['postgres', 'template1']);

/**
 * Brings back a server from its dumps: its roles and tablespaces, then each database that there are backups of, one after another,
 * each as a restore of its own. Everything that can be known is asked first; one that fails then stops no other. Errors before
 * anything is touched: `target-not-empty` for databases that are there, and those of `chooseBackups`, `restoreGlobals` and
 * `restore`. What has failed later is in the outcome.
 */
export async function restoreAll(request: RestoreAllRequest, context: OperationContext): Promise<RestoreAllOutcome> {
  const startedMs = context.clock.monotonicMs();
  const { connection, planOnly } = request;
  const { source, chosen, younger } = await chooseBackups(request, context);
  await refuseExisting(chosen, connection, context);
  const globals = await findGlobalsOf(source, chosen, request, context);
  const loadRoles = async (isPlan: boolean): Promise<RestoreGlobalsOutcome | undefined> => {
    if (globals === undefined || request.globals === undefined) return undefined;
    return restoreFoundGlobals(globals, { ...request, choice: request.globals, planOnly: isPlan }, context);
  };
  const plannedGlobals = await loadRoles(true);
  const planned = await planEach(chosen, request, context);
  const properties = new Map(plannedGlobals?.stored.databases.map((each) => [each.name, each]));
  const outcome = { source, younger };
  const durationMs = (): number => Math.round(context.clock.monotonicMs() - startedMs);
  if (planOnly) {
    return { ...outcome, done: false, globals: plannedGlobals, databases: planned, durationMs: durationMs() };
  }
  const loaded = await loadRoles(false).catch(partly);
  const databases: RestoredDatabase[] = [];
  const given: LoadedObject[] = [];
  for (const [index, each] of planned.entries()) {
    const { name } = each.manifest.database;
    context.logger.info('restore.next', `database ${index + 1} of ${planned.length}: ${name}`, { database: name });
    const restored = await restoreOne(each, properties.get(name), request, context);
    databases.push(restored);
    given.push(...(await givePropertiesTo(restored, globals, request, context)));
    if (context.signal.aborted) throw interrupted(databases, given, planned.length);
  }
  const all = loaded && { ...loaded, objects: [...loaded.objects, ...given] };
  return { ...outcome, done: true, globals: all, databases, durationMs: durationMs() };
}

/**
 * A database that the server had already was not made like the old one, and becomes it at once: a later run would not touch it
 * any more. That this fails is in what comes out.
 */
async function givePropertiesTo(
  { state, manifest }: RestoredDatabase,
  found: FoundGlobals | undefined,
  request: RestoreAllRequest,
  context: OperationContext,
): Promise<readonly LoadedObject[]> {
  const { globals, leaveOut } = request;
  const { name } = manifest.database;
  const isDue = state === 'restored' && STANDING.has(name) && !leaveOut.owners && !leaveOut.privileges;
  if (found === undefined || globals === undefined || !isDue) return [];
  const choice = { ...globals, databases: new Set([name]) };
  try {
    return (await restoreFoundGlobals(found, { ...request, choice }, context).catch(partly)).objects;
  } catch (thrown) {
    const error = asPgarkError(thrown);
    const words = `database "${name}" has not its owner, settings and rights: ${error.message}`;
    context.logger.error('globals.part_failed', words, { kind: 'database', name });
    return [
      { kind: 'database', name, action: 'overwrite', notes: [], statements: [], failures: [{ what: '', error }] },
    ];
  }
}

function partly(error: unknown): RestoreGlobalsOutcome {
  if (error instanceof GlobalsPartlyRestored) return error.outcome;
  throw error;
}

function interrupted(
  databases: readonly RestoredDatabase[],
  given: readonly LoadedObject[],
  count: number,
): PgarkError {
  const done = databases.filter(({ state }) => state === 'restored').map(({ manifest }) => manifest.database.name);
  return new PgarkError(
    'interrupted',
    `the restore was interrupted: ${done.length} of ${count} databases are whole, the others are not there`,
    {
      hint: [
        `go on with the same command${done.map((name) => ` --exclude-database ${shellWord(name)}`).join('')}`,
        ...given.filter(hasFailed).map(({ name }) => `${name} gets its settings with --globals --database-settings`),
      ].join('; '),
    },
  );
}

/** Error: `target-not-empty`, which names all of them. */
async function refuseExisting(
  chosen: readonly ChosenBackup[],
  connection: ConnectionParameters,
  { signal }: OperationContext,
): Promise<void> {
  const databases = await listDatabases(connection, { applicationName: 'pgark restore', signal });
  const there = new Set(databases.map(({ name }) => name));
  const names = chosen.map(({ manifest }) => manifest.database.name);
  const existing = names.filter((name) => there.has(name) && !STANDING.has(name));
  if (existing.length === 0) return;
  throw new PgarkError(
    'target-not-empty',
    `${connection.host}:${connection.port} has databases of these names already: ${existing.join(', ')}; nothing was touched`,
    {
      hint: 'restore into a server without them, drop or rename them there, or leave each out with --exclude-database NAME',
    },
  );
}

/** Those that go with the newest of the backups. None are no error: a server may have been backed up without. */
async function findGlobalsOf(
  source: string,
  chosen: readonly ChosenBackup[],
  { places, globals }: RestoreAllRequest,
  context: OperationContext,
): Promise<FoundGlobals | undefined> {
  if (globals === undefined) return undefined;
  const begunAt = new Date(Math.max(...chosen.map(({ manifest }) => Date.parse(manifest.startedAt))));
  try {
    // A storage that is away was told of when the backups were chosen.
    return await findGlobals(places, source, { kind: 'with', begunAt }, context, { logsPassedOver: false });
  } catch (error) {
    if (!(error instanceof PgarkError) || error.code !== 'backup-not-found') throw error;
    context.logger.warning(
      'globals.none',
      `no roles and tablespaces of ${source} are stored: the databases can be restored only where the roles are there that they name`,
      { source },
    );
    return undefined;
  }
}

/** All checks of each restore. Error: the gravest, with what is wrong with each. */
async function planEach(
  chosen: readonly ChosenBackup[],
  request: RestoreAllRequest,
  context: OperationContext,
): Promise<readonly RestoredDatabase[]> {
  // What there is to say of a backup is said when it is restored.
  const silent = request.planOnly ? context : { ...context, logger: silentLogger };
  const planned: RestoredDatabase[] = [];
  const failures: { readonly name: string; readonly error: PgarkError }[] = [];
  for (const each of chosen) {
    try {
      const { plan } = await restore(requestFor(each, request, true), silent);
      planned.push({ ...each, state: 'planned', plan, durationMs: undefined, error: undefined });
    } catch (thrown) {
      context.signal.throwIfAborted();
      failures.push({ name: each.manifest.database.name, error: asPgarkError(thrown) });
    }
  }
  const [first] = failures;
  if (first === undefined) return planned;
  const words = failures.map(({ name, error }) => `${name}: ${error.message}`).join('; ');
  const { code, hint } = first.error;
  throw new PgarkError(code, `nothing was touched, since not all can be restored: ${words}`, {
    hint: `${hint}; or leave it out with --exclude-database NAME`,
    cause: first.error,
  });
}

async function restoreOne(
  each: RestoredDatabase,
  properties: StoredDatabase | undefined,
  request: RestoreAllRequest,
  context: OperationContext,
): Promise<RestoredDatabase> {
  try {
    const { durationMs } = await restore(
      { ...requestFor(each, request, false), unwritten: unwrittenOf(properties) },
      context,
    );
    return { ...each, state: 'restored', durationMs };
  } catch (thrown) {
    const error = asPgarkError(thrown);
    const { database, id } = each.manifest;
    const where = describeConnection({ ...request.connection, database: database.name });
    context.logger.error('restore.part_failed', `${id} was not restored into ${where}: ${error.message}`, {
      database: database.name,
      code: error.code,
    });
    return { ...each, state: 'failed', error };
  }
}

function unwrittenOf(properties: StoredDatabase | undefined): RestoreRequest['unwritten'] {
  if (properties === undefined) return undefined;
  const { settings, comment } = properties;
  return {
    settings: settings.map(({ name, values, role }) => ({
      ...(role === undefined ? {} : { role }),
      name,
      value: cataloguedValue(name, values),
    })),
    ...(comment === undefined ? {} : { comment }),
  };
}

function requestFor(
  { manifest, storage, store }: ChosenBackup,
  request: RestoreAllRequest,
  planOnly: boolean,
): RestoreRequest {
  const { keys, verifyFirst, leaveOut, jobs, analyse, connection, around } = request;
  return {
    store,
    filter: {},
    selector: { kind: 'name', name: manifest.id },
    target: { kind: 'database', connection: { ...connection, database: manifest.database.name }, clean: false },
    keys,
    verifyFirst,
    leaveOut,
    ...(jobs === undefined ? {} : { jobs }),
    analyse,
    around: around(storage),
    planOnly,
  };
}
