import { join } from 'node:path';
import type { Manifest } from '../../repository/manifest.ts';
import { type DownloadSource, shellWord } from '../download-source.ts';
import type { SourceAccess } from '../load-source.ts';
import { readDecrypted } from '../sealed-object.ts';

const UNPACK: Readonly<Record<Manifest['compression']['algorithm'], string>> = {
  none: 'cat',
  gzip: 'gunzip -c',
  zstd: 'zstd -dc',
  lz4: 'lz4 -dc',
};

/** The SQL text, compressed as it is. */
export function dumpDownload(manifest: Manifest, { store, keys, signal }: SourceAccess): DownloadSource {
  const files = manifest.objects.map((object) => {
    const name = object.key.slice(object.key.lastIndexOf('/') + 1);
    return {
      name: manifest.encryption === undefined ? name : name.replace(/\.(age|enc)$/, ''),
      open: (onStoredBytes: (bytesTotal: number) => void) =>
        readDecrypted(store, manifest, object, { keys, signal, onStoredBytes }),
    };
  });
  return {
    files,
    storedBytes: manifest.objects.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    command: (folder) => {
      const paths = files.map(({ name }) => shellWord(join(folder, name)));
      return `${UNPACK[manifest.compression.algorithm]} ${paths.join(' ')} | psql -X -v ON_ERROR_STOP=1 -d NEW_DATABASE`;
    },
  };
}
