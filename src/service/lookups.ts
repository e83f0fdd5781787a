import { z } from 'zod';
import type { Clock } from '../common/clock.ts';
import { isPgarkError } from '../common/errors.ts';
import type { Random } from '../common/random.ts';
import { startSecondOf } from '../repository/ids.ts';
import { keys, parseProofKey } from '../repository/keys.ts';
import { Repository } from '../repository/repository.ts';
import { readState } from '../repository/state-object.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';

const READS_IN_FLIGHT_MAX = 16;
const proofRecord = z.object({ passed: z.boolean() });

/** When the newest backup of a database (or of a source, all its databases) in a storage was begun; no manifest is read. */
export async function newestBackupAt(
  store: ObjectStore,
  { source, database }: { readonly source: string; readonly database: string | undefined },
  world: { readonly clock: Clock; readonly random: Random },
  call: CallOptions,
): Promise<Date | 'never'> {
  const filter = { source, ...(database === undefined ? {} : { database }) };
  const [newest] = await new Repository(store, world).newestKeys(filter, call);
  return newest === undefined ? 'never' : startSecondOf(newest.id);
}

/** Of the backups named, those that the newest verification found damaged. */
export async function damagedByProofs(
  store: ObjectStore,
  of: { readonly source: string; readonly database: string },
  ids: ReadonlySet<string>,
  call: CallOptions,
): Promise<ReadonlySet<string>> {
  const prefix = keys.proofsOfDatabase(of.source, of.database);
  const newest = new Map<string, ObjectKey>();
  for await (const { key } of store.list(prefix, call)) {
    const { id, kind } = parseProofKey(key);
    // Keys end in their time: the last is the newest.
    if (ids.has(id) && kind === 'verify') newest.set(id, key);
  }
  const damaged = new Set<string>();
  const found = [...newest];
  for (let start = 0; start < found.length; start += READS_IN_FLIGHT_MAX) {
    await Promise.all(
      found.slice(start, start + READS_IN_FLIGHT_MAX).map(async ([id, key]) => {
        if (await hasFailed(store, key, call)) damaged.add(id);
      }),
    );
  }
  return damaged;
}

async function hasFailed(store: ObjectStore, key: ObjectKey, call: CallOptions): Promise<boolean> {
  try {
    return (await readState(store, key, proofRecord, call))?.value.passed === false;
  } catch (error) {
    // A proof that is damaged proves nothing. What a newer version has found is not known here, and no all-clear is given.
    if (isPgarkError(error, 'repository-damaged')) return false;
    if (isPgarkError(error, 'repository-unknown-layout')) return true;
    throw error;
  }
}
