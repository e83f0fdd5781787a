import type { Clock } from '../common/clock.ts';
import type { Random } from '../common/random.ts';
import { newestProofs, saysIll } from '../operations/proofs.ts';
import type { VerifiedBackup } from '../operations/verify.ts';
import { startSecondOf } from '../repository/ids.ts';
import { Repository } from '../repository/repository.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';

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

/**
 * Of the backups given, those that the newest verification found damaged, or of which it cannot be read. Reading all that is
 * stored refutes what was wrong with the storage.
 */
export async function damagedByProofs(
  store: ObjectStore,
  backups: readonly Pick<VerifiedBackup, 'manifest' | 'depth'>[],
  { clock }: { readonly clock: Clock },
  call: CallOptions,
): Promise<ReadonlySet<string>> {
  const manifests = backups.map(({ manifest }) => manifest);
  const proofs = await newestProofs(store, manifests, { ...call, clock });
  const damaged = backups.filter(({ manifest, depth }) => {
    const { verify } = proofs.get(manifest.id) ?? {};
    return verify !== undefined && saysIll(verify) && !(depth === 'stored' && verify.isOfStorage);
  });
  return new Set(damaged.map(({ manifest }) => manifest.id));
}
