import { createHash, type Hash } from 'node:crypto';
import { assert, PgarkError } from '../../common/errors.ts';
import type { Transform } from '../../pipeline/transform.ts';
import type { ManifestFile } from '../../postgres/base/backup-manifest.ts';
import type { TarEntry } from '../../postgres/base/tar-header.ts';
import { type TarHandler, TarReader } from '../../postgres/base/tar-reader.ts';
import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';
import type { FileSum } from './file-ledger.ts';

/** What an archive is of: a tablespace, or the data directory. */
export interface ArchiveOf {
  /** Missing: the data directory. */
  readonly oid?: string | undefined;
}

/** Folder of the data directory in which the files of an archive lie, with its slash: empty for the data directory itself. */
export function folderOf({ oid }: ArchiveOf): ByteString {
  return (oid === undefined ? '' : `pg_tblspc/${oid}/`) as ByteString;
}

/** Name of the archive's object, without the endings of compression and encryption. */
export function archiveName({ oid }: ArchiveOf): string {
  return `${oid ?? 'base'}.tar`;
}

/** Tells the size and digest of each file of an archive; everything else is left to others. */
export class SummingHandler implements TarHandler {
  readonly #folder: ByteString;
  readonly #onFile: (file: FileSum) => void;
  #entry: TarEntry | undefined;
  #hash: Hash | undefined;

  constructor(of: ArchiveOf, onFile: (file: FileSum) => void) {
    this.#folder = folderOf(of);
    this.#onFile = onFile;
  }

  begun(entry: TarEntry): void {
    this.#entry = entry;
    this.#hash = entry.kind === 'file' ? createHash('sha256') : undefined;
  }

  content(piece: Uint8Array): void {
    this.#hash?.update(piece);
  }

  ended(): void {
    assert(this.#entry !== undefined, 'what ends has begun');
    if (this.#hash === undefined) return;
    const { name, bytes } = this.#entry;
    this.#onFile({ path: (this.#folder + name) as ByteString, bytes, sha256: this.#hash.digest('hex') });
  }
}

/** Passes an archive on unchanged, and tells of its files on the way. Error: `corrupt` for one that is no such archive. */
export function summingFiles(of: ArchiveOf, onFile: (file: FileSum) => void): Transform {
  return async function* summed(source) {
    const reader = new TarReader(new SummingHandler(of, onFile), archiveName(of));
    for await (const block of source) {
      reader.push(block);
      yield block;
    }
    reader.end();
  };
}

/** Error: `corrupt` for a file that was listed without its SHA-256. */
export function sumOf({ path, bytes, checksum, algorithm }: ManifestFile): FileSum {
  if (checksum !== undefined && algorithm === 'SHA256') return { path, bytes, sha256: checksum };
  throw new PgarkError('corrupt', `the backup_manifest has no SHA-256 of ${readable(path)}`);
}
