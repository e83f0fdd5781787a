import { PgarkError } from '../common/errors.ts';
import { type GlobalsRecord, listGlobals } from '../repository/globals.ts';
import type { Manifest } from '../repository/manifest.ts';
import { type BackupFilter, Repository } from '../repository/repository.ts';
import { globalsAt } from '../retention/globals.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { type BackupSelector, findBackup } from './find-backup.ts';

/** The manifest of one backup. Error: `backup-not-found`, also for dumps of other tools, which have none. */
export async function showBackup(
  request: { readonly store: ObjectStore; readonly selector: BackupSelector; readonly filter: BackupFilter },
  context: OperationContext,
): Promise<Manifest> {
  const found = await findBackup(new Repository(request.store, context), request.selector, request.filter, context);
  if (found.kind === 'own') return found.manifest;
  throw new PgarkError('backup-not-found', `${found.key} was written by another tool: nothing is recorded of it`, {
    hint: `pgark restore ${found.key} --to-db NAME restores it`,
  });
}

/** The roles, tablespaces and settings of the server that go with a backup; undefined where none were stored. */
export async function globalsOf(
  store: ObjectStore,
  { source, startedAt }: Pick<Manifest, 'source' | 'startedAt'>,
  options: CallOptions,
): Promise<GlobalsRecord | undefined> {
  const { records } = await listGlobals(store, { source }, options);
  const dated = records.map((record) => ({ takenAt: new Date(record.storeTime), record }));
  return globalsAt(dated, new Date(startedAt))?.record;
}
