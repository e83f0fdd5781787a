import { type Lsn, parseLsn } from '../../postgres/wal/lsn.ts';
import { byStoreTime, type Manifest } from '../../repository/manifest.ts';
import { Repository } from '../../repository/repository.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { OperationContext } from '../context.ts';

/** Oldest first by the store's clock. Manifests of other formats are not even read. */
export async function physicalBackups(
  { store, source }: { readonly store: ObjectStore; readonly source: string },
  context: Pick<OperationContext, 'clock' | 'random' | 'signal'>,
): Promise<readonly Manifest[]> {
  const repository = new Repository(store, context);
  const call = { signal: context.signal };
  const found: Manifest[] = [];
  for await (const { key, id } of repository.manifestKeys({ source }, call)) {
    if (!/-[fi][a-z2-7]{6}$/.test(id)) continue;
    const manifest = await repository.manifestAt(key, call);
    if (manifest?.format === 'physical') found.push(manifest);
  }
  // One that needs another, which is gone, restores no server.
  const ids = new Set<string>(found.map(({ id }) => id));
  const whole = found.filter(({ parents }) => parents.every((id) => ids.has(id)));
  return whole.sort(byStoreTime);
}

/** A base backup of one server, and the part of the log without which it is none. */
export interface BackedUpPart {
  readonly manifest: Manifest;
  readonly timeline: number;
  readonly from: Lsn;
  readonly to: Lsn;
}

/** Those of a server whose manifests say where they lie in its log, in the order of the manifests. */
export function partsOfServer(manifests: readonly Manifest[], systemIdentifier: string): readonly BackedUpPart[] {
  return manifests.flatMap((manifest) => {
    const { server, timeline, startLsn, stopLsn } = manifest;
    if (server.systemIdentifier !== systemIdentifier) return [];
    if (timeline === undefined || startLsn === undefined || stopLsn === undefined) return [];
    return [{ manifest, timeline, from: parseLsn(startLsn), to: parseLsn(stopLsn) }];
  });
}
