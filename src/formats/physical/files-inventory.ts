import { BackupManifestReader } from '../../postgres/base/backup-manifest.ts';
import { readable } from '../../postgres/toc/byte-string.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { FilesInventory, InventoryFile } from '../inventory.ts';
import type { SourceAccess } from '../load-source.ts';
import { PhysicalObjects } from './physical-objects.ts';

/** Errors: `corrupt`, `wrong-key`, `key-missing`, `store-…`. */
export async function filesInventory(manifest: Manifest, access: SourceAccess): Promise<FilesInventory> {
  const objects = new PhysicalObjects(manifest, access);
  const files: InventoryFile[] = [];
  const reader = new BackupManifestReader(({ path, bytes, checksum, algorithm }) => {
    files.push({ path: readable(path), bytes, checksum: checksum && `${algorithm ?? ''} ${checksum}` });
  });
  const { signal } = access;
  for await (const block of objects.read(objects.named('backup_manifest'), { signal, onStoredBytes: () => {} })) {
    reader.push(block);
  }
  reader.end();
  return { kind: 'files', files };
}
