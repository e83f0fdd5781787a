import { isPgarkError } from '../../common/errors.ts';
import { findSpan, spanOf } from '../../formats/physical/needed-wal.ts';
import { kindOfId } from '../../repository/ids.ts';
import { IntentLog } from '../../repository/intents.ts';
import type { OperationContext } from '../context.ts';
import { explainTaken, refuseForeign } from './copy-item.ts';
import type { CopyPlan, PlannedBackup } from './copy-plan.ts';
import type { CopyRequest } from './copy-request.ts';
import { fromFirst } from './copy-source.ts';

export function isAnythingMissing({ backups, globals }: CopyPlan): boolean {
  return globals?.item !== undefined || backups.some(({ item }) => item !== undefined);
}

/** Of the backups that are there; no storage that has more of the WAL need be at hand. Error: `corrupt` where none is. */
export async function hasNeededWal(
  { backups }: CopyPlan,
  { to, from }: CopyRequest,
  { signal }: OperationContext,
): Promise<boolean> {
  for (const { manifest, item } of backups) {
    if (kindOfId(manifest.id) !== 'physical' || item !== undefined) continue;
    try {
      await findSpan(to.store, spanOf(manifest), { signal });
    } catch (error) {
      if (!isPgarkError(error, 'corrupt') || from.length === 0) throw error;
      return false;
    }
  }
  return true;
}

/** What would be in the way. Errors: `object-exists`, `corrupt`. */
export async function checkPlaces(
  { backups, globals }: CopyPlan,
  { to }: CopyRequest,
  context: OperationContext,
): Promise<void> {
  const { signal } = context;
  for (const item of [...backups.map((each) => each.item), globals?.item]) {
    if (item === undefined) continue;
    refuseForeign(item);
    const intents = new IntentLog(to.store);
    // What a dead run left there is swept before anything is copied.
    if ((await intents.find(item.id, { signal })) !== undefined) continue;
    await intents.refuseTaken(item.places, { signal }).catch(explainTaken);
  }
  for (const backup of backups) await confirmSourceWal(backup, context);
}

/** Before anything of the backup is copied. Error: `corrupt` where no storage has all of its WAL. */
export async function confirmSourceWal(
  { manifest, from }: PlannedBackup,
  { logger, signal }: Pick<OperationContext, 'logger' | 'signal'>,
): Promise<void> {
  if (kindOfId(manifest.id) !== 'physical' || from.length === 0) return;
  const work = { what: `the WAL of ${manifest.id}`, logger, signal };
  await fromFirst(from, work, ({ store }) => findSpan(store, spanOf(manifest), { signal }));
}
