import type { Manifest } from '../repository/manifest.ts';
import { archiveInventory } from './directory/archive-inventory.ts';
import type { Inventory } from './inventory.ts';
import type { SourceAccess } from './load-source.ts';
import { filesInventory } from './physical/files-inventory.ts';

/**
 * Reads what a backup holds, and none of its rows. Undefined for SQL text, which says nothing before it is read whole. Errors:
 * `corrupt`, `wrong-key`, `key-missing`, `store-…`.
 */
export async function takeInventory(manifest: Manifest, access: SourceAccess): Promise<Inventory | undefined> {
  switch (manifest.format) {
    case 'plain':
      return undefined;
    case 'directory':
      return archiveInventory(manifest, access);
    case 'physical':
      return filesInventory(manifest, access);
    default:
      return manifest.format satisfies never;
  }
}
