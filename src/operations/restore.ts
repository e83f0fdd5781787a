import { GIB } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import type { LoadSource, Selection } from '../formats/load-source.ts';
import { openBackup } from '../formats/open-backup.ts';
import { openForeignDump } from '../formats/plain/dump-source.ts';
import type { LeftOut } from '../formats/plain/left-out.ts';
import type { DecryptionKeys } from '../pipeline/encryption/sealer.ts';
import type { Manifest, ManifestProperties } from '../repository/manifest.ts';
import type { BackupFilter } from '../repository/repository.ts';
import { Repository } from '../repository/repository.ts';
import { describeUnread } from '../repository/unread-tables.ts';
import { type Run, runEnveloped } from '../runs/run.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { explainMissingRoles } from './missing-roles.ts';
import { type BackupSelector, findBackup, type FoundBackup } from './find-backup.ts';
import { type AroundRestore, type RestoreFacts, surrounded } from './restore-around.ts';
import { type LoadResult, loadIntoTarget, type RestoreTarget } from './restore-into.ts';
import { whileHeld } from './while-held.ts';

export type { NewName, SectionName } from '../formats/load-source.ts';

export interface RestoreRequest {
  readonly store: ObjectStore;
  readonly filter: BackupFilter;
  readonly selector: BackupSelector;
  readonly target: RestoreTarget;
  /** A backup of another database is refused. A dump of another tool's says of no database that it is from it. */
  readonly expectedDatabase?: string;
  readonly keys: DecryptionKeys;
  /** Read all that is stored and compare it with its digests before the target is touched; by default where that is affordable. */
  readonly verifyFirst: boolean | undefined;
  /** What is not taken over from the old server. Default: nothing is left out. */
  readonly leaveOut?: LeftOut;
  /** What the database had that is not written down beside an encrypted backup. Default: it is done without, with a warning. */
  readonly unwritten?: Pick<ManifestProperties, 'settings' | 'comment'> | undefined;
  /** A part of the backup, into a database of its own. Default: all of it. */
  readonly selection?: Selection;
  /** Connections at once, for a backup that is loaded by several. Default: one a processor, at most 8. */
  readonly jobs?: number;
  /**
   * Reads every row once more when all is loaded, and compares it with what was recorded at the dump. Default: not done.
   * Refused for a backup that has nothing recorded.
   */
  readonly verifyRows?: boolean;
  readonly analyse: boolean;
  /** Asked before the target is touched, and told after. Default: nobody. */
  readonly around?: AroundRestore | undefined;
  /** Find, check, say what would be done, and stop. */
  readonly planOnly: boolean;
}

export interface RestoreOutcome {
  readonly backup: FoundBackup;
  readonly plan: readonly string[];
  readonly done: boolean;
  readonly database: string;
  /** Name of the database that was replaced, if it is still there. */
  readonly keptAs: string | undefined;
  readonly durationMs: number;
}

/** Below this a separate pass of reading costs little against loading the data and building its indexes. */
const VERIFY_FIRST_BYTES_MAX = GIB;

/**
 * Restores one backup: found → whole in the store → readable with the keys given → target fit → (read and checked) →
 * loaded beside → checked again → put in place. A failure at any point leaves the target as it was.
 */
export async function restore(request: RestoreRequest, context: OperationContext): Promise<RestoreOutcome> {
  const { store, target } = request;
  return runEnveloped({ ...context, store }, { kind: 'restore', database: target.connection.database }, async (run) => {
    const startedMs = context.clock.monotonicMs();
    const { found, source } = await run.span.span('checks', {}, () => findReadable(request, context));
    run.span.note({ 'pgark.format': source.format });
    warnOfGaps(source, run);
    if (found.kind !== 'foreign') warnOfUnread(found.manifest, run);
    if (request.verifyRows === true) checkEvidence(source, run);
    const verifyFirst = request.verifyFirst ?? source.storedBytes < VERIFY_FIRST_BYTES_MAX;
    const verify = async (isUndone: boolean): Promise<void> => {
      if (!verifyFirst) return;
      // Damage is found before the first statement runs; where nothing undoes what was loaded, that of the content too.
      await run.span.span('verify', {}, () =>
        source.readThrough({
          unpacks: !isUndone,
          onStoredBytes: (bytes) =>
            context.onProgress({ phase: 'verifying', subject: source.name, bytes, bytesTotal: source.storedBytes }),
        }),
      );
    };
    const load = (): Promise<LoadResult> =>
      surrounded(request.around, factsOf(found, request, run), context.signal, (begin) =>
        loadIntoTarget(
          {
            source,
            target,
            leaveOut: request.leaveOut,
            jobs: request.jobs,
            verifyRows: request.verifyRows === true,
            analyse: request.analyse,
            planOnly: request.planOnly,
            beforeTouching: async (isUndone) => {
              await run.open();
              await verify(isUndone);
              await begin();
            },
          },
          run,
          context,
        ),
      );
    const work = { store, command: 'restore', logger: run.logger, runId: run.id } as const;
    const loading =
      found.kind === 'foreign' || request.planOnly
        ? load()
        : whileHeld({ ...work, manifest: found.manifest }, context, load);
    const loaded = await loading.catch(async (error: unknown) => {
      const { keys } = request;
      if (found.kind === 'foreign') throw error;
      const connection = target.connection;
      throw await explainMissingRoles(error, {
        store,
        manifest: found.manifest,
        connection,
        keys,
        signal: context.signal,
      });
    });
    const durationMs = Math.round(context.clock.monotonicMs() - startedMs);
    const outcome: RestoreOutcome = {
      backup: found,
      plan: [...(verifyFirst ? [`read ${source.name} once and check it before anything else`] : []), ...loaded.plan],
      done: loaded.done,
      database: loaded.database,
      keptAs: loaded.keptAs,
      durationMs,
    };
    if (loaded.done) report(outcome, run, source);
    return { value: outcome, result: { backup: source.name, database: loaded.database, durationMs } };
  });
}

function factsOf(found: FoundBackup, { target }: RestoreRequest, { id }: Run): RestoreFacts {
  const { host, port, database } = target.connection;
  const manifest = found.kind === 'own' ? found.manifest : undefined;
  return {
    runId: id,
    source: manifest?.source,
    backupId: manifest?.id,
    database: manifest?.database.name,
    target: { kind: target.kind, host, port, database },
  };
}

async function findReadable(
  request: RestoreRequest,
  context: OperationContext,
): Promise<{ readonly found: FoundBackup; readonly source: LoadSource }> {
  const { store, selector, filter, selection, target } = request;
  const repository = new Repository(store, context);
  const of = selector.kind === 'name' ? filter : { ...filter, kind: 'logical' as const };
  const found = await findBackup(repository, selector, of, context);
  checkDatabase(found, request);
  const subject = found.kind === 'foreign' ? found.key : found.manifest.id;
  context.onProgress({ phase: 'checking', subject, bytes: 0 });
  const source = completed(await openFound(found, request, context), request);
  return { found, source: selection === undefined ? source : source.only(checkSelection(selection, target)) };
}

function completed(source: LoadSource, { unwritten }: RestoreRequest): LoadSource {
  const { like } = source;
  if (unwritten === undefined || like?.properties === undefined || like.properties.leftOut.length === 0) return source;
  return { ...source, like: { ...like, properties: { ...like.properties, ...unwritten, leftOut: [] } } };
}

/** Rows go into tables that exist, and a part never takes the place of a whole. Error: `usage`. */
function checkSelection(selection: Selection, target: RestoreTarget): Selection {
  if (target.kind === 'in-place') {
    throw new PgarkError(
      'usage',
      `a part of a backup, or one with other names, does not replace "${target.connection.database}"`,
      {
        hint: 'restore it into a database of its own with --to-db NAME, and copy from there',
      },
    );
  }
  if (selection.sections.length === 0 || selection.sections.includes('pre-data')) return selection;
  throw new PgarkError('usage', `section ${selection.sections.join(', ')} needs what section pre-data makes`, {
    hint: 'say --section pre-data as well: a restore goes into a new or empty database',
  });
}

function checkDatabase(found: FoundBackup, { expectedDatabase, target }: RestoreRequest): void {
  if (expectedDatabase === undefined || found.kind === 'foreign') return;
  const { id, database } = found.manifest;
  if (database.name === expectedDatabase) return;
  throw new PgarkError(
    'confirmation-needed',
    `${id} is a backup of database "${database.name}", and would replace "${target.connection.database}"`,
    {
      hint: `if that is what you want, name the database before the backup: pgark restore ${database.name} ${id} …`,
    },
  );
}

/** What was not read when the backup was made, nobody finds in it. */
function warnOfUnread(manifest: Manifest, run: Run): void {
  const unread = describeUnread(manifest);
  if (unread === undefined) return;
  run.logger.warning(
    'restore.rows_missing',
    `the backup has no rows of ${unread}: they are unlogged, and it was taken from a standby, which has none of them`,
  );
}

/** Error: `restore-failed` for a backup whose rows cannot be compared with anything. */
function checkEvidence({ name, evidence }: LoadSource, run: Run): void {
  if (evidence === 'hashes') return;
  if (evidence === undefined) {
    throw new PgarkError('restore-failed', `${name} has nothing recorded that its rows could be compared with`, {
      hint: 'backups of format directory have; restore this one without --verify',
    });
  }
  run.logger.warning(
    'restore.rows_counted',
    `${name} has no hashes of its rows: of each table only their number is compared`,
  );
}

const NAMES_SHOWN_MAX = 10;

/** What is not restored as it was although nobody said so. */
function warnOfGaps({ alsoLeftOut, withoutRows, leftBehind }: LoadSource, run: Run): void {
  const warn = (event: string, why: string, objects: readonly string[]): void => {
    if (objects.length === 0) return;
    const shown = objects.slice(0, NAMES_SHOWN_MAX).join(', ');
    const more = objects.length > NAMES_SHOWN_MAX ? ` and ${objects.length - NAMES_SHOWN_MAX} more` : '';
    run.logger.warning(event, `${why}: ${shown}${more}`, { objects });
  };
  warn('restore.left_out', 'left out as well, since they need what is left out', alsoLeftOut);
  warn(
    'restore.without_rows',
    'made without rows, since they are only needed by what was chosen; views and materialized views show none of theirs',
    withoutRows,
  );
  warn('restore.left_behind', 'not restored, since they belong to what was not chosen as well', leftBehind);
}

function report(outcome: RestoreOutcome, run: Run, source: LoadSource): void {
  const kept = outcome.keptAs === undefined ? '' : `; the old database is kept as ${outcome.keptAs}`;
  run.logger.success('restore.done', `restored ${source.name} into ${outcome.database}${kept}`, {
    backup: source.name,
    database: outcome.database,
    keptAs: outcome.keptAs,
    durationMs: outcome.durationMs,
  });
}

/** The backup as something to load, whoever wrote it. Errors: `corrupt`, `wrong-key`, `key-missing`, `store-…`. */
function openFound(
  found: FoundBackup,
  { store, keys }: RestoreRequest,
  { signal }: OperationContext,
): Promise<LoadSource> {
  const access = { store, keys, signal };
  return found.kind === 'foreign' ? openForeignDump(found, access) : openBackup(found.manifest, access);
}
