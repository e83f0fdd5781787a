import { z } from 'zod';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { type BackupId, isBackupId } from './ids.ts';
import { keys } from './keys.ts';
import { compressionRecord, encryptionRecord, LAYOUT, serverRecord, storedObject } from './manifest.ts';
import { encodeName } from './names.ts';
import { readState, writeState } from './state-object.ts';

const READS_IN_FLIGHT_MAX = 16;

/** What is wanted of globals and was not to be had. */
const leftOut = z.object({
  /** Because the role may not read them, or was told not to. */
  passwords: z.boolean(),
  /** Roles that own or are granted something and that the server does not show: there is no statement for them. */
  hiddenRoles: z.number().int().nonnegative(),
});

const globalsSchema = z.object({
  layout: z.literal(LAYOUT),
  id: z.string().refine(isBackupId, 'is no backup id') as unknown as z.ZodType<BackupId>,
  kind: z.literal('globals'),
  source: z.string().min(1),
  server: serverRecord,
  client: z.object({ program: z.string(), version: z.string() }),
  startedAt: z.iso.datetime(),
  endedAt: z.iso.datetime(),
  /** The store's own clock at the commit. */
  storeTime: z.iso.datetime(),
  runId: z.string(),
  object: storedObject,
  compression: compressionRecord,
  encryption: encryptionRecord.optional(),
  leftOut,
  /** How many of each the SQL text makes. */
  counts: z.object({ roles: z.number().int().nonnegative(), tablespaces: z.number().int().nonnegative() }),
  pgarkVersion: z.string(),
});

/**
 * The record whose existence makes the globals of a server a backup: roles, memberships, tablespaces and the settings of
 * databases, beside the backups of its databases and independent of each. JSON, `layout: 1`.
 */
export type GlobalsRecord = z.infer<typeof globalsSchema>;

/**
 * Name of the lease under which globals are stored. That of a backup is `SOURCE/DATABASE`, and always has a slash that
 * this one never has.
 */
export function globalsLeaseName(source: string): string {
  return `globals:${encodeName(source)}`;
}

/** Globals are told from backups by the letter of their ids. */
export function isGlobalsId(id: string): boolean {
  return isBackupId(id) && id.includes('-g');
}

/** The commit point: after this resolves, the globals exist. Rejects with `store-condition-failed` if the id is taken. */
export async function commitGlobals(
  store: ObjectStore,
  record: GlobalsRecord,
  options: CallOptions = {},
): Promise<void> {
  const key = keys.globalsRecord(record.source, record.id);
  await writeState(store, key, globalsSchema.parse(record), {
    ...options,
    condition: { ifAbsent: true },
    isLasting: true,
  });
}

/** Globals of one source or all, oldest first, and the records that cannot be read. */
export async function listGlobals(
  store: ObjectStore,
  filter: { readonly source?: string } = {},
  options: CallOptions = {},
): Promise<{
  readonly records: readonly GlobalsRecord[];
  readonly damaged: readonly { readonly key: ObjectKey; readonly error: PgarkError }[];
}> {
  const prefix = filter.source === undefined ? keys.globalsRecordsPrefix : keys.globalsRecordsOf(filter.source);
  const found: ObjectKey[] = [];
  for await (const { key } of store.list(prefix, options)) found.push(key);
  const records: GlobalsRecord[] = [];
  const damaged: { key: ObjectKey; error: PgarkError }[] = [];
  const read = async (key: ObjectKey): Promise<void> => {
    try {
      const record = await readGlobals(store, key, options);
      if (record !== undefined && keys.globalsRecord(record.source, record.id) === key) records.push(record);
    } catch (error) {
      if (!isPgarkError(error, 'repository-damaged')) throw error;
      damaged.push({ key, error });
    }
  };
  for (let start = 0; start < found.length; start += READS_IN_FLIGHT_MAX) {
    await Promise.all(found.slice(start, start + READS_IN_FLIGHT_MAX).map(read));
  }
  records.sort((a, b) => (a.storeTime === b.storeTime ? (a.id < b.id ? -1 : 1) : a.storeTime < b.storeTime ? -1 : 1));
  return { records, damaged };
}

export async function readGlobals(
  store: ObjectStore,
  key: ObjectKey,
  options: CallOptions = {},
): Promise<GlobalsRecord | undefined> {
  return (await readState(store, key, globalsSchema, options))?.value;
}

/**
 * Removes globals in the order of a backup's removal: the record is copied to `deleted/` and removed, then the data, then
 * the copy. What a crash leaves of it, the next sweep finishes. Rejects with `repository-damaged` if the record names an
 * object that is not of these globals.
 */
export async function removeGlobals(
  store: ObjectStore,
  record: GlobalsRecord,
  options: CallOptions = {},
): Promise<void> {
  const recordKey = keys.globalsRecord(record.source, record.id);
  refuseForeignData(record, recordKey);
  await writeState(store, keys.deleted(record.id), record, options);
  await store.delete(recordKey, options);
  await store.delete(record.object.key, options);
  await store.delete(keys.deleted(record.id), options);
}

/** Whatever a record says, nothing but the data of its globals goes with it; `foundAt` is where it, or its copy, lies. */
export function refuseForeignData({ id, source, object }: GlobalsRecord, foundAt: ObjectKey): void {
  if (isGlobalsData(object.key, new Set([keys.globalsRecord(source, id)]))) return;
  throw new PgarkError('repository-damaged', `${foundAt} names ${object.key}, which is no data of ${id}`);
}

/** Whether a data key is that of globals whose record has one of the given keys. */
export function isGlobalsData(key: ObjectKey, recordKeys: ReadonlySet<ObjectKey>): boolean {
  const match = /^([^/]+)\/globals\/([^/.]+)\.sql(\.[a-z]+){0,2}$/.exec(key);
  return match !== null && recordKeys.has(`${keys.globalsRecordsPrefix}${match[1] ?? ''}/${match[2] ?? ''}.json`);
}
