import { type BackupId, isBackupId, kindOfId } from '../repository/ids.ts';
import { IntentLog } from '../repository/intents.ts';
import { keys } from '../repository/keys.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';

/** Physical backups of the source that have begun and not ended, or died. */
export async function physicalUnderWay(
  store: ObjectStore,
  source: string,
  options: CallOptions,
): Promise<readonly BackupId[]> {
  const ids: BackupId[] = [];
  for await (const found of new IntentLog(store).list(options)) {
    const id = 'intent' in found ? found.intent.id : found.key.slice(keys.intentsPrefix.length).replace('.json', '');
    const isPhysical = isBackupId(id) && kindOfId(id) === 'physical';
    // One that cannot be read may be of any source.
    if (isPhysical && (!('intent' in found) || found.intent.source === source)) ids.push(id);
  }
  return ids;
}
