import { readOwnProperties } from '../postgres/client/database-properties.ts';
import { renameLoaded, swapDatabases } from '../postgres/client/swap-databases.ts';
import { connectForMaintenance } from '../postgres/client/target-database.ts';
import type { Run } from '../runs/run.ts';
import type { BesideApproach, LoadOrder } from './restore-approach.ts';
import {
  closeLikeOld,
  giveComment,
  giveProperties,
  markTemplate,
  noteSubscriptions,
  takeOverProperties,
} from './restore-properties.ts';

/**
 * Gives a database that is loaded what it has besides its content, and its name. The mark of one that is not complete stays
 * until then: whatever ends this before leaves a database that the next restore drops. Works in sessions of its own: one
 * that was idle while the data was loaded may be gone.
 */
export async function putInPlace(
  names: { readonly current: string; readonly loaded: string; readonly keepAs: string },
  { source: { like }, target: { connection }, leaveOut }: LoadOrder,
  { replaces }: Pick<BesideApproach, 'replaces'>,
  options: Parameters<typeof connectForMaintenance>[1],
  run: Run,
): Promise<void> {
  const { current, loaded } = names;
  const session = await connectForMaintenance(connection, options);
  const helper = await connectForMaintenance(connection, options);
  try {
    // Of a database that bears the mark, and that nobody holds this lock for, the next restore thinks that it was left.
    await session.query('select pg_try_advisory_lock(hashtextextended($1, 0))', [run.id]);
    await noteSubscriptions(session, loaded, run);
    if (!replaces) {
      const wanted = leaveOut?.privileges === true ? withoutGrants(like) : like;
      await giveProperties(session, wanted, { ...connection, database: loaded }, run);
      await renameLoaded(session, helper, names);
      await giveComment(helper, current, like?.properties?.comment, run);
      if (like?.properties?.isTemplate === true) await markTemplate(helper, current, run);
      return;
    }
    const old = await readOwnProperties(session, current);
    if (old !== undefined) await takeOverProperties(session, old, loaded);
    const closed = await session.query('select from pg_database where datname = $1 and not datallowconn', [current]);
    if (closed.length > 0) await closeLikeOld(session, loaded, current, run);
    await swapDatabases(session, helper, names);
    await giveComment(helper, current, old?.comment, run);
    if (old?.isTemplate === true) await markTemplate(helper, current, run);
  } finally {
    await Promise.all([session.close(), helper.close()]);
  }
}

function withoutGrants(like: LoadOrder['source']['like']): LoadOrder['source']['like'] {
  if (like?.properties === undefined) return like;
  const { grants: _, ...properties } = like.properties;
  return { ...like, properties };
}
