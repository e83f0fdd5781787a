import { allOf } from '../common/in-parallel.ts';
import type { CallOptions, ObjectKey } from '../storage/object-store.ts';
import { keys } from './keys.ts';
import { type Manifest, serialiseManifest } from './manifest.ts';
import { OwnedObjects } from './owned-objects.ts';
import { findReaders, type Reader } from './readers.ts';
import { dataFolderOf, type Repository } from './repository.ts';

/** The one who prunes: two never remove backups of the same storage at the same time. */
export const PRUNE_LEASE = 'prune';

interface RemovalOptions extends CallOptions {
  /** Shared where many are removed, so that what it has to read is read once. */
  readonly owned?: OwnedObjects;
}

export interface Removal {
  readonly objectsDeleted: number;
  /** What the deleted objects took; without what was gone already, and without what is somebody else's. */
  readonly bytesDeleted: number;
  /** Keys of the backup under which somebody else's objects lie now. They stay. */
  readonly foreign: readonly ObjectKey[];
}

/** What a removal gave way to. */
export interface Kept {
  readonly kept: 'pinned' | Reader;
}

/**
 * Removes a backup: the manifest is copied to `deleted/` and removed first, so that it stops being a backup in one
 * step; then its data; then the copy. What a crash leaves of it, the next sweep finishes.
 */
export async function removeBackup(
  repository: Repository,
  manifest: Manifest,
  options: RemovalOptions = {},
): Promise<Removal> {
  await announceRemoval(repository, manifest, options);
  return finishRemoval(repository, manifest, options);
}

/**
 * The same, unless the backup is pinned or read by somebody: then it stays as it is, and this resolves with why. Looked for are pin
 * and readers when the copy in `deleted/` is there, and whoever pins or reads looks for that copy when the pin or the hold is
 * there: one of the two sees the other. To be called under the lease `PRUNE_LEASE`.
 */
export async function removeUnneeded(
  repository: Repository,
  manifest: Manifest,
  options: RemovalOptions = {},
): Promise<Removal | Kept> {
  await announceRemoval(repository, manifest, options);
  return (await withdrawIfKept(repository, manifest, options)) ?? finishRemoval(repository, manifest, options);
}

/**
 * Why a backup whose removal was begun stays, if it is pinned or read and still there. Then the copy of its manifest in
 * `deleted/` is gone. To be called under the lease `PRUNE_LEASE`.
 */
export async function withdrawIfKept(
  { store }: Repository,
  { id, source, database }: Manifest,
  { signal }: CallOptions,
): Promise<Kept | undefined> {
  const call = signal ? { signal } : {};
  const [pin, { reading }] = await allOf([store.head(keys.pin(id), call), findReaders(store, call, id)]);
  const kept = pin === undefined ? reading.get(id) : 'pinned';
  if (kept === undefined) return undefined;
  if ((await store.head(keys.manifest(source, database.name, id), call)) === undefined) return undefined;
  await store.delete(keys.deleted(id), call);
  return { kept };
}

/** All that follows the copy of the manifest, from wherever an earlier removal got to. */
export async function finishRemoval(
  repository: Repository,
  manifest: Manifest,
  { owned = new OwnedObjects(repository), ...call }: RemovalOptions,
): Promise<Removal> {
  const { store } = repository;
  const { id, source, database, companion } = manifest;
  await store.delete(keys.manifest(source, database.name, id), call);
  let objectsDeleted = 0;
  let bytesDeleted = 0;
  const count = (bytes: number): void => {
    objectsDeleted += 1;
    bytesDeleted += bytes;
  };
  const foreign: ObjectKey[] = [];
  for (const recorded of companion ? [...manifest.objects, companion] : manifest.objects) {
    const deletion = await owned.delete(recorded.key, id, { ...call, recorded });
    if (deletion === 'deleted') count(recorded.storedBytes);
    if (deletion === 'foreign') foreign.push(recorded.key);
  }
  const folder = dataFolderOf(manifest);
  if (folder !== undefined) {
    for await (const info of store.list(folder, call)) {
      if ((await owned.deleteFound(info, id, call)) === 'deleted') count(info.bytes);
      else foreign.push(info.key);
    }
  }
  await removeProofs(repository, manifest, call);
  if (manifest.suspicions !== undefined) await store.delete(keys.acceptedSize(id), call);
  await store.delete(keys.deleted(id), call);
  return { objectsDeleted, bytesDeleted, foreign };
}

async function announceRemoval({ store }: Repository, manifest: Manifest, { signal }: CallOptions): Promise<void> {
  await store.putSmall(keys.deleted(manifest.id), serialiseManifest(manifest), {
    ...(signal ? { signal } : {}),
    contentType: 'application/json',
  });
}

/** What verifications have said of a backup goes with it. */
async function removeProofs(
  { store }: Repository,
  { source, database, id }: Manifest,
  call: CallOptions,
): Promise<void> {
  for await (const proof of store.list(keys.proofsOf(source, database.name, id), call)) {
    await store.delete(proof.key, call);
  }
}
