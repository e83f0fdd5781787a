import type { ByteStream } from '../common/bytes.ts';
import type { CompressionAlgorithm } from '../common/compression-levels.ts';

export interface DownloadHow {
  /** Of the files that hold data. Default: as they are, or none where the backup's own version of PostgreSQL reads no such. */
  readonly compression: CompressionAlgorithm | undefined;
}

/** A backup of whatever format as the files that stock tools of PostgreSQL restore. */
export interface DownloadSource {
  readonly files: readonly DownloadFile[];
  readonly storedBytes: number;
  /** What restores the files once they lie in this folder, into a database that exists and is empty. */
  command(folder: string): string;
}

export interface DownloadFile {
  readonly name: string;
  /** Decrypted, and checked as it comes. Errors: `corrupt`, `wrong-key`, `key-missing`, `store-…`. */
  open(onStoredBytes: (bytesTotal: number) => void): ByteStream;
}
