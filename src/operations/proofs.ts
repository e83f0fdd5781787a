import { z } from 'zod';
import { isPgarkError } from '../common/errors.ts';
import { keys } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import { readState } from '../repository/state-object.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../storage/object-store.ts';

/** Proofs read at once. */
const READS_IN_FLIGHT_MAX = 16;

const proofRecord = z.object({ at: z.string(), passed: z.boolean() });

/**
 * When each of the backups of one database was last proven to restore, by id: those whose newest proof says so. A proof
 * that cannot be read proves nothing.
 */
export async function provenTimes(
  store: ObjectStore,
  backups: readonly Manifest[],
  options: CallOptions,
): Promise<ReadonlyMap<string, Date>> {
  const [first] = backups;
  const proven = new Map<string, Date>();
  if (first === undefined) return proven;
  const ids = new Set<string>(backups.map(({ id }) => id));
  const prefix = keys.proofsOfDatabase(first.source, first.database.name);
  const newest = new Map<string, ObjectKey>();
  for await (const { key } of store.list(prefix, options)) {
    const [id = ''] = key.slice(prefix.length).split('/');
    // Keys end in their time: the last is the newest.
    if (ids.has(id)) newest.set(id, key);
  }
  const found = [...newest];
  for (let start = 0; start < found.length; start += READS_IN_FLIGHT_MAX) {
    await Promise.all(
      found.slice(start, start + READS_IN_FLIGHT_MAX).map(async ([id, key]) => {
        const at = await passedAt(store, key, options);
        if (at) proven.set(id, at);
      }),
    );
  }
  return proven;
}

async function passedAt(store: ObjectStore, key: ObjectKey, options: CallOptions): Promise<Date | undefined> {
  try {
    const proof = (await readState(store, key, proofRecord, options))?.value;
    return proof?.passed === true ? new Date(proof.at) : undefined;
  } catch (error) {
    if (isPgarkError(error, 'repository-damaged')) return undefined;
    throw error;
  }
}
