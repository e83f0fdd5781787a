import type { Clock } from '../../common/clock.ts';
import type { Random } from '../../common/random.ts';
import { Repository } from '../../repository/repository.ts';
import type { WalFolder, WalObject } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectStore } from '../../storage/object-store.ts';
import type { WalPolicy } from '../prune-archives.ts';
import { keptWal, stretchOf } from './kept-wal.ts';

export interface NeededWalRequest {
  readonly store: ObjectStore;
  /** Another one, whose archive goes on and knows of all timelines. */
  readonly from: ObjectStore;
  readonly folder: WalFolder;
  readonly segmentBytes: number;
  /** What of the WAL may go from the first one. */
  readonly policy: WalPolicy;
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * What a storage needs of another one's archive, for the base backups that it has itself: the rest its own prune would let go. All
 * of it where that cannot be told.
 */
export async function neededWal(
  request: NeededWalRequest,
  call: CallOptions,
): Promise<(wal: WalObject, storedAt: Date) => boolean> {
  const { store, from, folder, segmentBytes, policy, clock, random } = request;
  const { source, systemIdentifier } = folder;
  const now = await store.now(call);
  const { manifests, damaged } = await new Repository(store, { clock, random }).backups(
    { source, kind: 'physical' },
    call,
  );
  if (damaged.length > 0) return () => true;
  const kept = manifests.filter(({ server }) => server.systemIdentifier === systemIdentifier);
  const place = { store: from, folder, segmentBytes };
  const plan = await keptWal({ ...place, kept, removed: [], keepMs: policy.keepMs, lock: { now } }, call);
  if (!('rule' in plan)) return () => true;
  return (wal, storedAt) => {
    const stretch = stretchOf(wal, segmentBytes);
    return stretch === undefined || plan.rule.needs({ ...stretch, storedAt });
  };
}
