import { isPgarkError, PgarkError } from '../common/errors.ts';
import { keys } from '../repository/keys.ts';
import { dataKeysOf } from '../repository/repository.ts';
import type { PruneOutcome } from './prune.ts';
import { withoutRefused } from './prune-refusal.ts';

const NAMED_MAX = 2;

/**
 * A prune needs a little room itself: its lease, and a note of each deletion that has begun, without which it would not be
 * safe. Where not even that is there, this says what can be deleted by hand, which is what the prune would have deleted, in
 * its order: the manifest first, so that there is never a backup without its data. Any other error is given back as it is.
 */
export async function explainFullStore(
  error: unknown,
  plan: () => Promise<Pick<PruneOutcome, 'planned' | 'refused'>>,
): Promise<unknown> {
  if (!isPgarkError(error, 'store-full')) return error;
  let hint = 'make some room in the storage (a few kB are enough), then run pgark prune again';
  try {
    const { planned, refused } = await plan();
    // What the prune itself would refuse is not advised either.
    const oldestFirst = withoutRefused(planned, refused).toSorted((one, other) =>
      one.storeTime.localeCompare(other.storeTime),
    );
    if (oldestFirst.length > 0) {
      const backups = oldestFirst.slice(0, NAMED_MAX).map((manifest) => {
        const inOrder = [keys.manifest(manifest.source, manifest.database.name, manifest.id), ...dataKeysOf(manifest)];
        return inOrder.join(', then ');
      });
      hint += `; if there is no other way, delete by hand what retention lets go, the oldest first and of each the manifest first, while no pgark works here: ${backups.join('; ')}`;
    } else if (planned.length === 0) {
      hint = 'retention lets no backup go: free space, raise the quota, or keep fewer backups';
    }
  } catch {
    // The first error is the one to tell.
  }
  return new PgarkError('store-full', `pgark prune has no room for its own notes: ${error.message}`, {
    cause: error,
    hint,
  });
}
