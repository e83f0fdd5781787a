import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { readToc } from '../../postgres/toc/read-toc.ts';
import { withCompression } from '../../postgres/toc/to-directory.ts';
import type { CompressionName } from '../../postgres/toc/toc.ts';
import { writeToc } from '../../postgres/toc/write-toc.ts';
import { compress } from '../../pipeline/compress.ts';
import { type CompressionAlgorithm, compressionOf, compressionSuffix } from '../../pipeline/compression.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { DownloadFile, DownloadHow, DownloadSource } from '../download-source.ts';
import { shellWord } from '../../common/shell-word.ts';
import type { SourceAccess } from '../load-source.ts';
import { BLOCKS_IN_FLIGHT } from './archive-source.ts';
import type { ArchiveFile } from './contents.ts';
import { ArchiveObjects, type StoredObjectFacts } from './read-archive.ts';

/** The first pg_restore that reads files compressed with zstd. */
const READS_ZSTD_SINCE = 16;

/**
 * The folder that `pg_restore` reads. Files are compressed as is wanted; else they stay as they are where pg_restore of the
 * version that the backup was made with can read them, and are decompressed where it cannot.
 */
export async function archiveDownload(
  manifest: Manifest,
  access: SourceAccess,
  { compression }: DownloadHow,
): Promise<DownloadSource> {
  const objects = new ArchiveObjects(manifest, access);
  const { files } = await objects.contents();
  const toc = objects.named('toc');
  const all = [toc, ...files.map((file) => objects.objectOf(file))];
  objects.checkPresence(all, await objects.list());
  const readsZstd = Number.parseInt(manifest.client.version, 10) >= READS_ZSTD_SINCE;
  const stored = manifest.compression.algorithm;
  const wanted = compression ?? (stored === 'zstd' && !readsZstd ? 'none' : stored);
  const isKept = wanted === stored || wanted === 'lz4';
  const written = files.map((file) =>
    isKept || !isCompressible(file) ? keptFile(objects, objects.objectOf(file)) : changedFile(objects, file, wanted),
  );
  return {
    files: [isKept ? keptFile(objects, toc) : tocFile(objects, wanted), ...written],
    storedBytes: all.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    command: (folder) => {
      const word = shellWord(folder);
      const unpack = wanted === 'zstd' && !readsZstd ? `zstd -d --rm ${word}/*.zst && ` : '';
      return `${unpack}pg_restore --exit-on-error -j 4 -d NEW_DATABASE ${word}`;
    },
  };
}

/** Lists of large objects are for pg_restore as they are, whatever the compression. */
function isCompressible({ role }: ArchiveFile): boolean {
  return role !== 'large-objects';
}

function keptFile(objects: ArchiveObjects, object: StoredObjectFacts): DownloadFile {
  return {
    name: objects.decryptedName(object.key.slice(objects.folder.length)),
    open: (onStoredBytes) => objects.readDecrypted(object, { onStoredBytes }),
  };
}

function changedFile(objects: ArchiveObjects, file: ArchiveFile, algorithm: CompressionAlgorithm): DownloadFile {
  const limit = { blocksInFlightMax: BLOCKS_IN_FLIGHT };
  return {
    name: `${objects.bareName(file.name)}${compressionSuffix(algorithm)}`,
    open: (onStoredBytes) =>
      compress(compressionOf(algorithm), limit)(objects.readFile(file, { onStoredBytes, ...limit })),
  };
}

/** pg_restore measures files, to begin with the largest, by the names that the compression recorded gives them. */
function tocFile(objects: ArchiveObjects, compression: CompressionName): DownloadFile {
  const { key } = objects.named('toc');
  const changed = async function* (): ByteStream & AsyncGenerator<Uint8Array> {
    const { toc } = readToc(await objects.bytesOf('toc'));
    if (toc.format !== 'directory') throw new PgarkError('corrupt', `${key} is no archive in directory format`);
    yield writeToc(withCompression(toc, compression));
  };
  return { name: objects.decryptedName(key.slice(objects.folder.length)), open: changed };
}
