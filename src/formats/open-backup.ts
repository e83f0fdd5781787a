import type { Manifest } from '../repository/manifest.ts';
import { openArchiveBackup } from './directory/archive-source.ts';
import type { LoadSource, SourceAccess } from './load-source.ts';
import { openPlainBackup } from './plain/dump-source.ts';
import { unknownFormat } from './unknown-format.ts';

/**
 * A backup of pgark's own, of any format, as something to load. Errors: `corrupt` where something is missing or truncated,
 * `wrong-key`, `key-missing`, `store-…`; `restore-failed` for a format that this version does not know.
 */
export async function openBackup(manifest: Manifest, access: SourceAccess): Promise<LoadSource> {
  switch (manifest.format) {
    case 'plain':
      return openPlainBackup(manifest, access);
    case 'directory':
      return openArchiveBackup(manifest, access);
    case 'physical':
      throw unknownFormat(manifest, 'restore');
    default:
      return manifest.format satisfies never;
  }
}
