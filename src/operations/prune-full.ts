import { isPgarkError, PgarkError } from '../common/errors.ts';
import { keys } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import { dataFolderOf, dataKeysOf } from '../repository/repository.ts';
import type { PruneOutcome } from './prune.ts';
import { withoutRefused } from './prune-refusal.ts';

/** No further backup is named when there are so many; chains are named whole. */
const NAMED_MIN = 2;

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
    const going = withoutRefused(planned, refused);
    if (going.length > 0) {
      const backups = firstChains(going).map((manifest) => placesOf(manifest).join(', then '));
      hint += `; if there is no other way, delete by hand what retention lets go, in this order and of each the manifest first, while no pgark works here: ${backups.join('; ')}`;
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

/**
 * The first backups of the plan, in its order: those that need another one before it. A chain is named whole, or nothing worth it
 * would be free.
 */
function firstChains(planned: readonly Manifest[]): readonly Manifest[] {
  const named: Manifest[] = [];
  // The last of the parents is the full backup.
  for (const chain of Map.groupBy(planned, ({ id, parents }) => parents.at(-1) ?? id).values()) {
    if (named.length >= NAMED_MIN) break;
    named.push(...chain);
  }
  return named;
}

/** Where a backup lies, in the order in which it is to be deleted. */
function placesOf(manifest: Manifest): readonly string[] {
  const folder = dataFolderOf(manifest);
  const files = dataKeysOf(manifest).filter((key) => folder === undefined || !key.startsWith(folder));
  const manifestKey = keys.manifest(manifest.source, manifest.database.name, manifest.id);
  return [manifestKey, ...(folder === undefined ? [] : [`the folder ${folder} with all in it`]), ...files];
}
