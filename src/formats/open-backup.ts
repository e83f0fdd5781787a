import { PgarkError } from '../common/errors.ts';
import type { Manifest } from '../repository/manifest.ts';
import { openArchiveBackup } from './directory/archive-source.ts';
import type { LoadSource, SourceAccess } from './load-source.ts';
import { openPlainBackup } from './plain/dump-source.ts';

/**
 * A backup of pgark's own, of any format, as something to load. Errors: `corrupt` where something is missing or truncated,
 * `wrong-key`, `key-missing`, `store-…`; `usage` for a physical one, which no database takes.
 */
export async function openBackup(manifest: Manifest, access: SourceAccess): Promise<LoadSource> {
  switch (manifest.format) {
    case 'plain':
      return openPlainBackup(manifest, access);
    case 'directory':
      return openArchiveBackup(manifest, access);
    case 'physical':
      throw new PgarkError('usage', `${manifest.id} is a physical backup, of a whole server and not of a database`, {
        hint: 'restore it into a directory with --to-dir DIR, and start a server there',
      });
    default:
      return manifest.format satisfies never;
  }
}
