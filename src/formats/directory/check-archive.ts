import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { tallyOf } from '../../pipeline/meter.ts';
import { type Manifest, sizesOf } from '../../repository/manifest.ts';
import type { BackupCheck, CheckListener } from '../check-backup.ts';
import { isOfKeys } from '../key-failure.ts';
import type { SourceAccess } from '../load-source.ts';
import { BLOCKS_IN_FLIGHT, drainAll, openArchive } from './archive-source.ts';
import { checkDirectoryToc, checkSums, readSums } from './check-lists.ts';
import { countingRows } from './comparing-rows.ts';
import type { ArchiveContents, ArchiveFile } from './contents.ts';
import { withoutEndMark } from './end-mark.ts';
import { ArchiveObjects } from './read-archive.ts';

/** The check of a backup of format directory: one listing says what is there, the list of contents what has to be. */
export class ArchiveCheck implements BackupCheck {
  readonly #manifest: Manifest;
  readonly #objects: ArchiveObjects;
  readonly #signal: AbortSignal;

  constructor(manifest: Manifest, access: SourceAccess) {
    this.#manifest = manifest;
    this.#objects = new ArchiveObjects(manifest, access);
    this.#signal = access.signal;
  }

  async presence(): Promise<void> {
    const sizes = await this.#objects.list();
    this.#objects.checkPresence(this.#manifest.objects, sizes);
    try {
      const { files } = await this.#objects.contents();
      this.#objects.checkPresence(
        files.map((file) => this.#objects.objectOf(file)),
        sizes,
      );
    } catch (error) {
      if (!(error instanceof PgarkError) || !isOfKeys(error)) throw error;
      await this.#checkSizesWithoutKey(sizes);
    }
  }

  /** The sums name all files, and the manifest says how much they are together. */
  async #checkSizesWithoutKey(sizes: ReadonlyMap<string, number>): Promise<void> {
    const sumsFile = this.#objects.named('sums').key;
    const keys = [...(await readSums(this.#objects)).keys(), sumsFile];
    const missing = keys.find((key) => !sizes.has(key));
    if (missing !== undefined) throw new PgarkError('corrupt', `${missing}, which ${sumsFile} names, is missing`);
    const bytes = keys.reduce((sum, key) => sum + (sizes.get(key) ?? 0), 0);
    const { storedBytes } = sizesOf(this.#manifest);
    if (bytes === storedBytes) return;
    throw new PgarkError(
      'corrupt',
      `the files of ${this.#objects.folder} have ${bytes} bytes in the store, their manifest says ${storedBytes}`,
    );
  }

  async content(told: CheckListener): Promise<void> {
    const subject = this.#objects.folder;
    const { storedBytes: bytesTotal } = sizesOf(this.#manifest);
    const tally = tallyOf((bytes) => told.onStoredBytes({ subject, bytes, bytesTotal }));
    try {
      const { contents } = await openArchive(this.#objects);
      await checkDirectoryToc(this.#objects, contents);
      await checkSums(this.#objects, contents);
      await this.#readAll(contents, tally);
    } catch (error) {
      if (!(error instanceof PgarkError) || !isOfKeys(error)) throw error;
      told.onLocked(error);
      await this.#readStored(tally);
    }
  }

  async #readAll({ files }: ArchiveContents, tally: ReturnType<typeof tallyOf>): Promise<void> {
    const options = () => ({ onStoredBytes: tally(), blocksInFlightMax: BLOCKS_IN_FLIGHT });
    const named = this.#manifest.objects.map((object) => () => this.#objects.read(object, options()));
    const listed = files.map((file) => () => this.#fileWithItsRows(file, options()));
    await drainAll([...named, ...listed], this.#signal);
  }

  #fileWithItsRows(file: ArchiveFile, options: Parameters<ArchiveObjects['readFile']>[1]): ByteStream {
    const { name, plainBytes, piece } = file;
    const content = this.#objects.readFile(file, options);
    return piece === undefined ? content : countingRows(name, piece)(withoutEndMark(plainBytes, name)(content));
  }

  async #readStored(tally: ReturnType<typeof tallyOf>): Promise<void> {
    const sums = [...(await readSums(this.#objects))];
    const summed = sums.map(
      ([key, sha256]) =>
        () =>
          this.#objects.readSummed(key, sha256, { onStoredBytes: tally() }),
    );
    await drainAll(summed, this.#signal);
  }
}
