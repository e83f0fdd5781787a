import type { Manifest, ManifestObject } from '../../repository/manifest.ts';
import { type DownloadFile, type DownloadSource, shellWord } from '../download-source.ts';
import type { SourceAccess } from '../load-source.ts';
import { BLOCKS_IN_FLIGHT } from './archive-source.ts';
import { ArchiveObjects } from './read-archive.ts';

/** The first pg_restore that reads files compressed with zstd. */
const READS_ZSTD_SINCE = 16;

/**
 * The folder that `pg_restore` reads. Files stay compressed where pg_restore of the version that the backup was made with
 * can read them.
 */
export async function archiveDownload(manifest: Manifest, access: SourceAccess): Promise<DownloadSource> {
  const objects = new ArchiveObjects(manifest, access);
  const contents = await objects.contents();
  const listed = contents.files.map((file) => objects.objectOf(file));
  const all = [objects.named('toc'), ...listed];
  objects.checkPresence(all, await objects.list());
  const major = Number.parseInt(manifest.client.version, 10);
  const unpacks = manifest.compression.algorithm === 'zstd' && major < READS_ZSTD_SINCE;
  return {
    files: all.map((object) => fileOf(objects, object, unpacks)),
    storedBytes: all.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    command: (folder) => `pg_restore --exit-on-error -j 4 -d NEW_DATABASE ${shellWord(folder)}`,
  };
}

function fileOf(objects: ArchiveObjects, object: ManifestObject, unpacks: boolean): DownloadFile {
  const name = object.key.slice(objects.folder.length);
  return {
    name: unpacks ? objects.bareName(name) : objects.decryptedName(name),
    open: (onStoredBytes) =>
      unpacks
        ? objects.read(object, { onStoredBytes, blocksInFlightMax: BLOCKS_IN_FLIGHT })
        : objects.readDecrypted(object, { onStoredBytes }),
  };
}
