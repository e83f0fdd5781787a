import { isPgarkError, messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { OpenIntent } from '../repository/intents.ts';
import { ID_METADATA } from '../repository/owned-objects.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import type { BackupName } from './backup-format.ts';

/** What a failed backup may have left in a store. */
interface Left {
  readonly name: BackupName;
  /** Of what it has put, as the store said them. */
  readonly etags: ReadonlyMap<ObjectKey, string | undefined>;
  readonly intent: OpenIntent;
  /** Its lease was lost: then the intent is left to the successor, who may be sweeping. */
  readonly lost: boolean;
  readonly error: unknown;
}

/**
 * After a failure: removes the backup's objects if they are certainly still ours, then the intent. What cannot be removed
 * now is found by its intent in the next run.
 */
export async function cleanUp(
  store: ObjectStore,
  left: Left,
  { logger, signal }: { readonly logger: Logger; readonly signal: AbortSignal },
): Promise<void> {
  const { name, intent, lost } = left;
  const call = { signal };
  try {
    // Somebody else's object has the name: nothing of ours was stored.
    if (isPgarkError(left.error, 'object-exists') && name.prefixes.length === 0) return await intent.finish(call);
    let cleaned = !lost;
    for (const key of name.keys) if (!(await removeObject(store, key, left, call))) cleaned = false;
    if (!lost) for (const prefix of name.prefixes) await removeFolder(store, prefix, call);
    // What may be ours and does not show it keeps its intent: the sweep has more to go by.
    if (cleaned) await intent.finish(call);
  } catch (error) {
    logger.warning(
      'backup.cleanup_failed',
      `what the failed backup left will be removed by the next run: ${messageOf(error)}`,
    );
  }
}

/** Whether nothing is there any more that may be ours. */
async function removeObject(
  store: ObjectStore,
  key: ObjectKey,
  { name, etags, lost }: Left,
  call: CallOptions,
): Promise<boolean> {
  if (!lost) {
    // A store that was away may not have heard of the abort.
    for await (const upload of store.listUploads(key, call)) {
      if (upload.key === key) await store.abortUpload(upload, call);
    }
  }
  const now = await store.head(key, call);
  if (now === undefined) return true;
  const ours = etags.has(key) ? now.etag === etags.get(key) : now.metadata?.[ID_METADATA] === name.id;
  if (ours) await store.delete(key, call);
  return ours;
}

/** A folder has the backup's id: all that is in it is ours. */
async function removeFolder(store: ObjectStore, prefix: string, call: CallOptions): Promise<void> {
  for await (const upload of store.listUploads(prefix, call)) await store.abortUpload(upload, call);
  for await (const { key } of store.list(prefix, call)) await store.delete(key, call);
}
