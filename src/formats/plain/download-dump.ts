import { join } from 'node:path';
import type { ByteStream } from '../../common/bytes.ts';
import { compress } from '../../pipeline/compress.ts';
import { compressionOf, compressionSuffix } from '../../pipeline/compression.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { DownloadHow, DownloadSource } from '../download-source.ts';
import { shellWord } from '../../common/shell-word.ts';
import type { SourceAccess } from '../load-source.ts';
import { readPart } from '../missing-part.ts';
import { readDecrypted, readSealed } from '../sealed-object.ts';

const UNPACK: Readonly<Record<Manifest['compression']['algorithm'], string>> = {
  none: 'cat',
  gzip: 'gunzip -c',
  zstd: 'zstd -dc',
  lz4: 'lz4 -dc',
};

/** The SQL text, compressed as it is or as is wanted. */
export function dumpDownload(
  manifest: Manifest,
  { store, keys, signal }: SourceAccess,
  { compression }: DownloadHow,
): DownloadSource {
  const stored = manifest.compression.algorithm;
  const changed = compression === stored ? undefined : compression;
  const files = manifest.objects.map((object) => {
    const part = (stream: ByteStream): ByteStream => readPart(stream, object.key, manifest, store);
    const last = object.key.slice(object.key.lastIndexOf('/') + 1);
    const name = manifest.encryption === undefined ? last : last.replace(/\.(age|enc)$/, '');
    if (changed === undefined) {
      const open = (onStoredBytes: (bytesTotal: number) => void) =>
        part(readDecrypted(store, manifest, object, { keys, signal, onStoredBytes }));
      return { name, open };
    }
    const bare = stored === 'none' ? name : name.replace(/\.(gz|zst|lz4)$/, '');
    return {
      name: `${bare}${compressionSuffix(changed)}`,
      open: (onStoredBytes: (bytesTotal: number) => void) =>
        compress(compressionOf(changed))(part(readSealed(store, manifest, object, { keys, signal, onStoredBytes }))),
    };
  });
  return {
    files,
    storedBytes: manifest.objects.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    command: (folder) => {
      const paths = files.map(({ name }) => shellWord(join(folder, name)));
      return `${UNPACK[changed ?? stored]} ${paths.join(' ')} | psql -X -v ON_ERROR_STOP=1 -d NEW_DATABASE`;
    },
  };
}
