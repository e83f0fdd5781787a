import { PgarkError } from '../../common/errors.ts';
import { readable } from '../../postgres/toc/byte-string.ts';
import { readToc } from '../../postgres/toc/read-toc.ts';
import type { ArchiveContents } from './contents.ts';
import type { ArchiveObjects } from './read-archive.ts';
import { parseSums } from './sums.ts';

/** What pg_restore reads has to be as it was stored, and to name files that are there. Errors: `corrupt`, those of keys, `store-…`. */
export async function checkDirectoryToc(objects: ArchiveObjects, { files }: ArchiveContents): Promise<void> {
  const { key } = objects.named('toc');
  const { toc } = readToc(await objects.bytesOf('toc'));
  if (toc.format !== 'directory') throw new PgarkError('corrupt', `${key} is no archive in directory format`);
  const names = new Set(files.map(({ name }) => objects.bareName(name)));
  for (const entry of toc.entries) {
    if (entry.file === '' || names.has(readable(entry.file))) continue;
    throw new PgarkError('corrupt', `${key} names ${readable(entry.file)}, which is not in the list of contents`);
  }
}

/** What `sha256sum -c` would compare has to be what the backup is recorded to hold. Errors: `corrupt`, `store-…`. */
export async function checkSums(objects: ArchiveObjects, { files }: ArchiveContents): Promise<void> {
  const sums = await readSums(objects);
  const { key: sumsFile } = objects.named('sums');
  const listed = objects.manifest.objects.filter(({ key }) => key !== sumsFile);
  for (const { key, storedSha256 } of [...listed, ...files.map((file) => objects.objectOf(file))]) {
    if (sums.get(key) === storedSha256) continue;
    throw new PgarkError('corrupt', `${sumsFile} does not have the digest that was recorded for ${key}`);
  }
}

/** The digests that `SHA256SUMS` names, by the keys of the objects. Errors: `corrupt`, `store-…`. */
export async function readSums(objects: ArchiveObjects): Promise<ReadonlyMap<string, string>> {
  const { key } = objects.named('sums');
  const byName = parseSums(await objects.bytesOf('sums'), key);
  return new Map([...byName].map(([name, sha256]) => [objects.folder + name, sha256]));
}
