import { acceptSize } from '../repository/accepted-sizes.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { BackupFilter } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import type { BackupSelector } from './find-backup.ts';
import { showBackup } from './show.ts';

/**
 * Calls the size of a suspicious backup right: from now on it counts for retention as any other, and the next ones are compared
 * with it. Of one that is not suspicious nothing is written. Error: `backup-not-found`.
 */
export async function acceptBackup(
  request: { readonly store: ObjectStore; readonly selector: BackupSelector; readonly filter: BackupFilter },
  context: OperationContext,
): Promise<Manifest> {
  const manifest = await showBackup(request, context);
  if (manifest.suspicions !== undefined) {
    const { signal, clock } = context;
    await acceptSize(request.store, manifest.id, { acceptedAt: clock.now(), signal });
  }
  return manifest;
}
