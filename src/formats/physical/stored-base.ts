import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { tallyOf } from '../../pipeline/meter.ts';
import type { Transform } from '../../pipeline/transform.ts';
import { type BackupManifest, BackupManifestReader } from '../../postgres/base/backup-manifest.ts';
import { type FileSum, FileLedger } from './file-ledger.ts';
import { type ArchiveOf, summingFiles, sumOf } from './archive-files.ts';
import type { PhysicalObjects, StoredArchive } from './physical-objects.ts';

/** Archives that are read at once, and the blocks of each that are decompressed at once. */
const READERS = 4;
const BLOCKS_IN_FLIGHT = 4;

export interface BaseReading {
  readonly signal: AbortSignal;
  readonly onStoredBytes: (bytesTotal: number) => void;
}

/**
 * Reads the archives of a stored physical backup, several at once, and compares each file with the backup_manifest. `take`
 * reads an archive to its end, and tells of its files. Resolves with what the backup_manifest says besides. Errors:
 * `corrupt` where anything is missing, added or changed; `wrong-key`, `key-missing`, `store-…`, and those of `take`.
 */
export async function readBase(
  objects: PhysicalObjects,
  { signal, onStoredBytes }: BaseReading,
  take: (source: ByteStream, archive: StoredArchive, onFile: (file: FileSum) => void) => Promise<void>,
): Promise<BackupManifest> {
  const tally = tallyOf(onStoredBytes);
  const { ledger, manifest } = await readFileList(objects, { signal, onStoredBytes: tally() });
  const options = { signal, blocksInFlightMax: BLOCKS_IN_FLIGHT };
  await inParallel(objects.archives(), READERS, signal, async (next, either) => {
    for (let archive = next(); archive !== undefined; archive = next()) {
      const reading = { ...options, signal: either, onStoredBytes: tally() };
      await take(objects.read(archive.object, reading), archive, (file) => ledger.compare(file));
    }
  });
  ledger.end();
  return manifest;
}

/**
 * What the backup_manifest says, and a ledger that has noted all its files, for those of the archives to be compared with. Errors:
 * `corrupt`, `wrong-key`, `key-missing`, `store-…`.
 */
async function readFileList(
  objects: PhysicalObjects,
  reading: BaseReading,
): Promise<{ readonly ledger: FileLedger; readonly manifest: BackupManifest }> {
  const { id } = objects.manifest;
  const ledger = new FileLedger((why) => new PgarkError('corrupt', `backup ${id} is damaged: ${why}`));
  const reader = new BackupManifestReader((file) => ledger.note(sumOf(file)));
  for await (const block of objects.read(objects.named('backup_manifest'), reading)) reader.push(block);
  return { ledger, manifest: reader.end() };
}

/** Passes an archive on unchanged, and compares its files. */
export type FileCheck = (archive: ArchiveOf) => Transform;

/**
 * Compares the archives of a stored backup with its backup_manifest, each once, wherever they go: behind the last one no file is
 * missing. Errors: those of `readBase`.
 */
export async function fileCheck(objects: PhysicalObjects, { signal }: Pick<BaseReading, 'signal'>): Promise<FileCheck> {
  const { ledger } = await readFileList(objects, { signal, onStoredBytes: () => {} });
  let left = objects.archives().length;
  return (archive) =>
    async function* checked(source) {
      yield* summingFiles(archive, (file) => ledger.compare(file))(source);
      left -= 1;
      if (left === 0) ledger.end();
    };
}
