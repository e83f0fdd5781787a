import type { Manifest } from '../repository/manifest.ts';
import { archiveDownload } from './directory/download-archive.ts';
import type { DownloadHow, DownloadSource } from './download-source.ts';
import type { SourceAccess } from './load-source.ts';
import { baseDownload } from './physical/download-base.ts';
import { dumpDownload } from './plain/download-dump.ts';

/** Errors: `corrupt`, `wrong-key`, `key-missing`, `store-…`. */
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
      return baseDownload(manifest, access, how);
    default:
      return manifest.format satisfies never;
  }
}
