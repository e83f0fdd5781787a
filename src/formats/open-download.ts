import { PgarkError } from '../common/errors.ts';
import type { Manifest } from '../repository/manifest.ts';
import { archiveDownload } from './directory/download-archive.ts';
import type { DownloadHow, DownloadSource } from './download-source.ts';
import type { SourceAccess } from './load-source.ts';
import { dumpDownload } from './plain/download-dump.ts';

/** Errors: `corrupt`, `wrong-key`, `key-missing`, `store-…`; `usage` for a physical one. */
export async function downloadSource(
  manifest: Manifest,
  access: SourceAccess,
  how: DownloadHow,
): Promise<DownloadSource> {
  switch (manifest.format) {
    case 'plain':
      return dumpDownload(manifest, access, how);
    case 'directory':
      return archiveDownload(manifest, access, how);
    case 'physical':
      throw new PgarkError('usage', `${manifest.id} is a physical backup, which download does not write out yet`, {
        hint: `restore it with --to-dir DIR; pgark show ${manifest.id} says how to do without pgark`,
      });
    default:
      return manifest.format satisfies never;
  }
}
