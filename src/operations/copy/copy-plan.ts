import { asPgarkError, isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { storedObjects } from '../../formats/stored-objects.ts';
import type { StoredFacts } from '../../formats/sealed-object.ts';
import { type GlobalsRecord, readGlobals, removeGlobals } from '../../repository/globals.ts';
import { type BackupId, kindOfId } from '../../repository/ids.ts';
import { keys } from '../../repository/keys.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { removeBackup } from '../../repository/remove-backup.ts';
import { dataFolderOf, Repository } from '../../repository/repository.ts';
import type { OperationContext } from '../context.ts';
import { globalsOf } from '../show.ts';
import { type CopyItem, refuseRemoval } from './copy-item.ts';
import type { CopyPlace, CopyRequest } from './copy-request.ts';
import { fromFirst } from './copy-source.ts';

/** One backup of those that are to be there in the end. */
export interface PlannedBackup {
  readonly manifest: Manifest;
  /** Storages that have it, besides the one that it goes to. */
  readonly from: readonly CopyPlace[];
  readonly objects: readonly StoredFacts[];
  /** Undefined where it is there already. */
  readonly item: CopyItem | undefined;
}

interface PlannedGlobals {
  readonly id: BackupId;
  readonly item: CopyItem | undefined;
}

export interface CopyPlan {
  /** What an incremental backup needs first, the backup itself last. */
  readonly backups: readonly PlannedBackup[];
  readonly globals: PlannedGlobals | undefined;
}

type PlanContext = Pick<OperationContext, 'clock' | 'random' | 'signal'> & { readonly logger: Logger };

/**
 * What is there and what is not, without writing anything. Errors: `object-exists` for another backup of the same id;
 * `corrupt` where the very same is there, and not whole, or no storage has all of what is to be copied; `backup-not-found`
 * where one that it needs is nowhere.
 */
export async function planCopy(request: CopyRequest, context: PlanContext): Promise<CopyPlan> {
  const { manifest, from } = request;
  const backups: PlannedBackup[] = [];
  for (const id of [manifest.id, ...manifest.parents].reverse()) {
    backups.push(await planBackup(id, request, context));
  }
  // The files of a whole server hold what belongs to no database.
  const isOfDatabase = kindOfId(manifest.id) === 'logical' && from.length > 0;
  return { backups, globals: isOfDatabase ? await planGlobals(request, context) : undefined };
}

async function planBackup(id: BackupId, request: CopyRequest, context: PlanContext): Promise<PlannedBackup> {
  const { manifest: asked, to } = request;
  const { signal, logger } = context;
  const { source, database } = asked;
  const recordKey = keys.manifest(source, database.name, id);
  const there = await new Repository(to.store, context).manifestAt(recordKey, { signal });
  const found = await findIn(recordKey, request.from, context);
  const from = found.map(({ place }) => place);
  const [first] = found;
  if (there !== undefined) {
    if (first !== undefined && !isSame(first.manifest, there)) throw another(id, to);
    await refuseRemoval({ id }, { to, signal });
    const objects = await storedObjects(there, { store: to.store, signal }).catch((error: unknown) => {
      throw isPgarkError(error, 'corrupt') ? notWhole(there, to, error) : error;
    });
    return { manifest: there, from, objects, item: undefined };
  }
  if (first === undefined) {
    const places = [...request.from, to].map(({ name }) => name).join(' nor in ');
    throw new PgarkError('backup-not-found', `${id} is neither in ${places}, and ${asked.id} needs it`, {
      hint: 'without it nothing can be restored of what is relative to it: copy another backup',
    });
  }
  const { manifest } = first;
  const work = { what: id, logger, signal };
  const objects = await fromFirst(from, work, ({ store }) => storedObjects(manifest, { store, signal }));
  const folder = dataFolderOf(manifest);
  const inFolder = (key: string): boolean => folder !== undefined && key.startsWith(folder);
  const item: CopyItem = {
    id,
    source,
    database: database.name,
    startedAt: new Date(manifest.startedAt),
    host: manifest.server.host,
    recordKey,
    objects,
    places: {
      keys: objects.map(({ key }) => key).filter((key) => !inFolder(key)),
      prefixes: folder === undefined ? [] : [folder],
    },
    from,
    withdraw: async () => void (await removeBackup(new Repository(to.store, context), manifest)),
  };
  return { manifest, from, objects, item };
}

/** Those that have the very same backup. One that cannot be read counts as one that has none, unless it is the last. */
async function findIn(
  recordKey: string,
  places: readonly CopyPlace[],
  context: PlanContext,
): Promise<readonly { readonly place: CopyPlace; readonly manifest: Manifest }[]> {
  const { signal, logger } = context;
  const found: { readonly place: CopyPlace; readonly manifest: Manifest }[] = [];
  let failure: PgarkError | undefined;
  for (const place of places) {
    try {
      const manifest = await new Repository(place.store, context).manifestAt(recordKey, { signal });
      if (manifest !== undefined && isSame(found[0]?.manifest ?? manifest, manifest)) found.push({ place, manifest });
    } catch (thrown) {
      signal.throwIfAborted();
      failure = asPgarkError(thrown);
      const { code, message } = failure;
      logger.warning('copy.source_failed', `nothing is copied from ${place.name}: ${message}`, {
        storage: place.name,
        code,
      });
    }
  }
  if (found.length === 0 && failure !== undefined) throw failure;
  return found;
}

/** Where it was stored, when, and how a storage confirmed it, is each storage's own. */
function isSame(one: Manifest, other: Manifest): boolean {
  return one === other || contentOf(one) === contentOf(other);
}

function contentOf({ id, format, source, database, parents, objects, totals }: Manifest): string {
  const files = objects.map(({ key, storedBytes, storedSha256 }) => [key, storedBytes, storedSha256]);
  return JSON.stringify([id, format, source, database.name, parents, files.toSorted(byFirst), totals]);
}

function byFirst([a = '']: readonly (string | number)[], [b = '']: readonly (string | number)[]): number {
  return a < b ? -1 : 1;
}

async function planGlobals(request: CopyRequest, context: PlanContext): Promise<PlannedGlobals | undefined> {
  const { manifest, from, to } = request;
  const { signal, logger } = context;
  const having: CopyPlace[] = [];
  let record: GlobalsRecord | undefined;
  for (const place of from) {
    const found = await globalsOf(place.store, manifest, { signal });
    record ??= found;
    if (found !== undefined && found.id === record?.id) having.push(place);
  }
  if (record === undefined) {
    const what = `no roles and tablespaces are stored beside ${manifest.id}: none are copied`;
    logger.debug('copy.no_globals', what);
    return undefined;
  }
  const { id, source, object, server, startedAt } = record;
  const recordKey = keys.globalsRecord(source, id);
  const there = await readGlobals(to.store, recordKey, { signal });
  if (there !== undefined) {
    if (there.object.key !== object.key || there.object.storedSha256 !== object.storedSha256) throw another(id, to);
    await refuseRemoval({ id }, { to, signal });
    const bytes = (await to.store.head(object.key, { signal }))?.bytes;
    if (bytes === object.storedBytes) return { id, item: undefined };
    throw new PgarkError(
      'corrupt',
      `${object.key}, the globals ${id}, is missing from ${to.name} or has another length`,
    );
  }
  const globals = record;
  const item: CopyItem = {
    id,
    source,
    database: undefined,
    startedAt: new Date(startedAt),
    host: server.host,
    recordKey,
    objects: [object],
    places: { keys: [object.key], prefixes: [] },
    from: having,
    withdraw: async () => removeGlobals(to.store, globals),
  };
  return { id, item };
}

function another(id: BackupId, { name }: CopyPlace): PgarkError {
  return new PgarkError('object-exists', `${name} has another backup of the id ${id}: its objects are not the same`, {
    hint: 'compare them: pgark show with --storage; nothing is ever replaced',
  });
}

function notWhole({ id, source, database }: Manifest, { name }: CopyPlace, cause: PgarkError): PgarkError {
  return new PgarkError('corrupt', `${id} is in ${name} already, and is not whole there: ${cause.message}`, {
    hint: `pgark verify ${id} shows what is wrong; what is left of it there (${keys.manifest(source, database.name, id)} and its data) has to be removed by hand before it can be copied again`,
    cause,
  });
}
