import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { BackupId } from './ids.ts';
import { keys } from './keys.ts';
import type { Manifest } from './manifest.ts';

/** Ids of the backups whose size somebody has called right. */
export async function readAcceptedSizes(store: ObjectStore, options: CallOptions): Promise<ReadonlySet<string>> {
  const ids = new Set<string>();
  for await (const { key } of store.list(keys.acceptedSizesPrefix, options)) {
    ids.add(key.slice(keys.acceptedSizesPrefix.length).replace(/\.json$/, ''));
  }
  return ids;
}

/** Those of these backups that are suspicious, and that nobody has accepted. One LIST, if any was suspicious at all. */
export async function suspiciousAmong(
  store: ObjectStore,
  manifests: Iterable<Pick<Manifest, 'id' | 'suspicions'>>,
  options: CallOptions,
): Promise<ReadonlySet<string>> {
  const suspicious = new Set<string>();
  for (const { id, suspicions } of manifests) if (suspicions !== undefined) suspicious.add(id);
  return suspicious.size === 0 ? suspicious : suspicious.difference(await readAcceptedSizes(store, options));
}

/** From now on the backup counts as one whose size is right. Once more is the same. */
export async function acceptSize(
  store: ObjectStore,
  id: BackupId,
  { acceptedAt, ...options }: CallOptions & { readonly acceptedAt: Date },
): Promise<void> {
  const record = { id, acceptedAt: acceptedAt.toISOString() };
  await store.putSmall(keys.acceptedSize(id), new TextEncoder().encode(`${JSON.stringify(record, undefined, 2)}\n`), {
    ...options,
    contentType: 'application/json',
  });
}
