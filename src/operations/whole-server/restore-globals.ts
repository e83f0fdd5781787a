import { PgarkError } from '../../common/errors.ts';
import { decodeGlobals, GLOBALS_BYTES_MAX, readGlobalsText } from '../../formats/globals/globals-text.ts';
import { readStoredGlobals, type StoredGlobals } from '../../formats/globals/stored-globals.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { connectSomewhere } from '../../postgres/client/list-databases.ts';
import { withSession } from '../../postgres/client/with-session.ts';
import type { GlobalsRecord } from '../../repository/globals.ts';
import { type Run, runEnveloped } from '../../runs/run.ts';
import type { OperationContext } from '../context.ts';
import type { Place } from '../find-across.ts';
import { findGlobals, type FoundGlobals, type GlobalsSelector } from './find-globals.ts';
import { compareGlobals, describeObject, type LoadedObject, loadGlobals } from './load-globals.ts';
import type { GlobalsChoice } from './planned-object.ts';

export interface RestoreGlobalsRequest {
  readonly places: readonly Place[];
  /** Default: the only one that the storage has globals of. */
  readonly source: string | undefined;
  readonly selector: GlobalsSelector;
  /** Of the server; its database need not be there. */
  readonly connection: ConnectionParameters;
  readonly keys: DecryptionKeys;
  readonly choice: GlobalsChoice;
  /** Compare, say what would be done, and stop. */
  readonly planOnly: boolean;
}

export interface RestoreGlobalsOutcome extends FoundGlobals {
  readonly stored: StoredGlobals;
  readonly done: boolean;
  readonly objects: readonly LoadedObject[];
  readonly durationMs: number;
}

/** Some of the globals could not be made, and all others are there. */
export class GlobalsPartlyRestored extends PgarkError {
  readonly outcome: RestoreGlobalsOutcome;

  constructor(outcome: RestoreGlobalsOutcome) {
    const failed = outcome.objects.filter(hasFailed);
    const names = failed.slice(0, NAMES_SHOWN_MAX).map((object) => describeObject(object));
    const more = failed.length > names.length ? ` and ${failed.length - names.length} more` : '';
    super('partial', `of ${outcome.record.id} could not be made as stored: ${names.join('; ')}${more}`, {
      hint: `the lines above say why; once that is mended, repeat the command: ${WHAT_IS_THERE}`,
    });
    this.outcome = outcome;
  }
}

const NAMES_SHOWN_MAX = 10;
const WHAT_IS_THERE =
  'roles that are there by then stay as they are, and get settings and memberships that they lack with --overwrite-roles';

export function hasFailed({ action, failures }: LoadedObject): boolean {
  return action === 'refuse' || failures.length > 0;
}

/**
 * Makes the roles, memberships, rights on parameters and tablespaces that were stored on a server: what is missing is made, what
 * is there stays as it is, and no role that is there gains by it unless the choice says so. Errors: `backup-not-found`, `usage`, `corrupt`, `wrong-key`, `key-missing`, `postgres-…`, all before
 * anything is touched; `partial` (a `GlobalsPartlyRestored`).
 */
export async function restoreGlobals(
  request: RestoreGlobalsRequest,
  context: OperationContext,
): Promise<RestoreGlobalsOutcome> {
  const { places, source, selector } = request;
  return restoreFoundGlobals(await findGlobals(places, source, selector, context), request, context);
}

/** The same with globals that were found. */
export async function restoreFoundGlobals(
  found: FoundGlobals,
  { connection, keys, choice, planOnly }: Pick<RestoreGlobalsRequest, 'connection' | 'keys' | 'choice' | 'planOnly'>,
  context: OperationContext,
): Promise<RestoreGlobalsOutcome> {
  const { record, store } = found;
  return runEnveloped({ ...context, store }, { kind: 'restore', source: record.source }, async (run) => {
    const startedMs = context.clock.monotonicMs();
    const { signal } = context;
    const stored = await run.span.span('checks', {}, () => readStored(found, keys, context));
    const applicationName = `pgark restore ${run.id}`;
    let hasBegun = false;
    const objects = await withSession(
      connectSomewhere(connection, { applicationName, signal }),
      signal,
      async (session) => {
        const planned = await compareGlobals(session, stored, choice);
        if (planOnly) return planned.map((object) => ({ ...object, failures: [] }));
        await run.open();
        const load = (): Promise<readonly LoadedObject[]> =>
          loadGlobals(session, planned, { logger: run.logger, signal });
        hasBegun = true;
        return run.span.span('load', {}, load);
      },
    ).catch((error: unknown) => {
      throw hasBegun && signal.aborted ? interrupted(error) : error;
    });
    const durationMs = Math.round(context.clock.monotonicMs() - startedMs);
    const outcome = { ...found, stored, done: !planOnly, objects, durationMs };
    if (!planOnly) report(outcome, { connection, choice }, run);
    if (!planOnly && objects.some(hasFailed)) throw new GlobalsPartlyRestored(outcome);
    return { value: outcome, result: { globalsId: record.id, durationMs, ...countsOf(objects) } };
  });
}

/** Each statement is whole or not at all; those before stay. */
function interrupted(cause: unknown): PgarkError {
  return new PgarkError(
    'interrupted',
    'the restore was interrupted, and some of the roles and tablespaces were not made',
    {
      cause,
      hint: `repeat the command: ${WHAT_IS_THERE}`,
    },
  );
}

async function readStored(
  { record, store }: FoundGlobals,
  keys: DecryptionKeys,
  { signal, onProgress }: OperationContext,
): Promise<StoredGlobals> {
  onProgress({ phase: 'checking', subject: record.id, bytes: 0 });
  if (record.object.plainBytes > GLOBALS_BYTES_MAX) {
    throw new PgarkError('restore-failed', `${record.object.key} is too long to be compared with a server`, {
      hint: 'load it by hand: docs/restore-by-hand.md',
    });
  }
  return readStoredGlobals(decodeGlobals(await readGlobalsText(record, { store, keys, signal })));
}

function countsOf(objects: readonly LoadedObject[]): { made: number; left: number } {
  const made = objects.filter((object) => object.statements.length > 0 && !hasFailed(object)).length;
  return { made, left: objects.filter(({ action }) => action === 'leave').length };
}

function warnOfGaps(
  { leftOut }: GlobalsRecord,
  objects: readonly LoadedObject[],
  { withPasswords }: GlobalsChoice,
  run: Run,
): void {
  const isMade = objects.some(({ kind, action }) => kind === 'role' && action === 'create');
  if (isMade && (leftOut.passwords || !withPasswords)) {
    const why = leftOut.passwords ? ', since none were stored' : '';
    run.logger.warning(
      'globals.no_passwords',
      `the roles that were made have no passwords${why}: \\password gives one`,
    );
  }
  const doubtful = objects.filter(
    ({ kind, action, notes }) => kind === 'role' && action === 'create' && notes.length > 0,
  );
  for (const { name, notes } of doubtful) {
    run.logger.warning('globals.doubtful', `role "${name}": ${notes.join(', ')}; look at it`, { name });
  }
  if (leftOut.hiddenRoles > 0) {
    run.logger.warning(
      'globals.hidden_roles',
      `${leftOut.hiddenRoles} roles of the old server are not among those stored, since it did not show them`,
    );
  }
}

function report(
  { record, objects, durationMs }: RestoreGlobalsOutcome,
  { connection: { host, port }, choice }: Pick<RestoreGlobalsRequest, 'connection' | 'choice'>,
  run: Run,
): void {
  for (const object of objects.filter(({ action }) => action === 'refuse')) {
    run.logger.error('globals.part_failed', `${describeObject(object)}: ${object.notes.join(', ')}`, {
      kind: object.kind,
      name: object.name,
    });
  }
  warnOfGaps(record, objects, choice, run);
  const { made, left } = countsOf(objects);
  run.logger.success(
    'globals.restored',
    `roles and tablespaces of ${record.source} on ${host}:${port}: ${made} made or added to, ${left} left as they were (${record.id})`,
    { globalsId: record.id, made, left, durationMs },
  );
}
