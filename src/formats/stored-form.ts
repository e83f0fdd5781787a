import type { Manifest, ManifestObject } from '../repository/manifest.ts';

const COMPRESSED = /\.(gz|zst|lz4)$/;
const ALGORITHMS: Readonly<Record<string, Manifest['compression']['algorithm']>> = {
  gz: 'gzip',
  zst: 'zstd',
  lz4: 'lz4',
};

/** How an object of a backup in many files is stored. */
export type StoredForm = Pick<Manifest, 'compression' | 'encryption'>;

/**
 * How one object is stored, of a backup whose files are not all stored alike: that is told by its name, since some are what
 * stock tools want uncompressed. The sums are never encrypted.
 */
export function storedForm({ key, role }: Pick<ManifestObject, 'key' | 'role'>, manifest: StoredForm): StoredForm {
  if (role === 'sums') return { compression: { algorithm: 'none', level: 0 } };
  const [, ending = ''] = COMPRESSED.exec(decryptedName(key, manifest)) ?? [];
  return { compression: { algorithm: ALGORITHMS[ending] ?? 'none', level: 0 }, encryption: manifest.encryption };
}

/** A file's name without what encryption adds to it. */
export function decryptedName(name: string, { encryption }: Pick<Manifest, 'encryption'>): string {
  return encryption === undefined ? name : name.replace(/\.(age|enc)$/, '');
}

/** A file's name without what encryption and compression add to it. */
export function bareName(name: string, manifest: Pick<Manifest, 'encryption'>): string {
  return decryptedName(name, manifest).replace(COMPRESSED, '');
}
