import { PgarkError } from '../common/errors.ts';
import type { Manifest, ManifestObject } from '../repository/manifest.ts';
import { dataFolderOf } from '../repository/repository.ts';
import type { ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { ArchiveObjects } from './directory/read-archive.ts';
import { parseSums } from './directory/sums.ts';
import { checkStoredSize, type StoredFacts } from './sealed-object.ts';

interface Place {
  readonly store: ObjectStore;
  readonly signal: AbortSignal;
}

/**
 * All objects of a backup as they lie in a store, for whoever needs no key: those that its manifest names, and those of an
 * archive that its `SHA256SUMS` names. One listing. Errors: `corrupt` for the first one that is not there, or has another
 * length; `repository-damaged` for one that cannot be of this backup.
 */
export async function storedObjects(manifest: Manifest, place: Place): Promise<readonly StoredFacts[]> {
  const { store, signal } = place;
  const folder = dataFolderOf(manifest);
  const sizes = new Map<ObjectKey, number>();
  if (folder !== undefined) for await (const { key, bytes } of store.list(folder, { signal })) sizes.set(key, bytes);
  const { objects: listed, companion } = manifest;
  const named = companion === undefined ? listed : [...listed, companion];
  for (const object of named) {
    if (folder !== undefined && object !== companion && !object.key.startsWith(folder))
      throw misplaced(manifest, object);
    const bytes = sizes.get(object.key) ?? (await store.head(object.key, { signal }))?.bytes;
    if (bytes === undefined) throw missing(object.key, manifest, store);
    checkStoredSize(object, bytes);
  }
  if (manifest.format !== 'directory') return named;
  const known = new Set(named.map(({ key }) => key));
  const summed = (await sumsOf(manifest, place)).filter(({ key }) => !known.has(key));
  const rest = summed.map(({ key, storedSha256 }) => {
    const storedBytes = sizes.get(key);
    if (storedBytes === undefined) throw missing(key, manifest, store);
    return { key, storedBytes, storedSha256 };
  });
  return [...named, ...rest];
}

/** What the list of sums of an archive says, which is never encrypted. Its own digest is in the manifest. */
async function sumsOf(
  manifest: Manifest,
  { store, signal }: Place,
): Promise<readonly Pick<StoredFacts, 'key' | 'storedSha256'>[]> {
  const objects = new ArchiveObjects(manifest, { store, signal, keys: { identities: [], passphrases: [] } });
  const sums = parseSums(await objects.bytesOf('sums'), objects.named('sums').key);
  return [...sums].map(([name, storedSha256]) => ({ key: objects.folder + name, storedSha256 }));
}

function missing(key: ObjectKey, { id }: Manifest, { location }: ObjectStore): PgarkError {
  return new PgarkError('corrupt', `${key}, a part of backup ${id}, is missing from ${location}`, {
    hint: 'somebody removed it: pgark verify shows which backups are whole',
  });
}

function misplaced({ id }: Manifest, { key }: ManifestObject): PgarkError {
  return new PgarkError(
    'repository-damaged',
    `the manifest of ${id} names ${key}, which is not in the backup’s folder`,
  );
}
