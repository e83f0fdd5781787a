import type { PgarkError } from '../../common/errors.ts';
import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';

/** A file of a base backup, as its archive holds it or as its backup_manifest lists it. */
export interface FileSum {
  /** As the backup_manifest has it, relative to the data directory. */
  readonly path: ByteString;
  readonly bytes: number;
  /** Hexadecimal digits, in lower case. */
  readonly sha256: string;
}

/** Length and digest in few bytes: there may be a million files. */
type Entry = readonly [bytes: number, sha256: string];

/**
 * Compares what archives hold with what the backup_manifest lists, whichever of the two comes first: that one is noted, the
 * other one is compared as it comes. `fail` makes the error of what is found wrong.
 */
export class FileLedger {
  readonly #noted = new Map<ByteString, Entry>();
  readonly #fail: (why: string) => PgarkError;

  constructor(fail: (why: string) => PgarkError) {
    this.#fail = fail;
  }

  note({ path, bytes, sha256 }: FileSum): void {
    if (this.#noted.has(path)) throw this.#fail(`${readable(path)} is there twice`);
    this.#noted.set(path, [bytes, packed(sha256)]);
  }

  compare({ path, bytes, sha256 }: FileSum): void {
    const entry = this.#noted.get(path);
    if (entry === undefined) throw this.#fail(`${readable(path)} is in only one of archive and backup_manifest`);
    this.#noted.delete(path);
    const [notedBytes, notedSum] = entry;
    if (bytes !== notedBytes)
      throw this.#fail(`${readable(path)} has ${bytes} bytes in one and ${notedBytes} in the other`);
    if (packed(sha256) !== notedSum) throw this.#fail(`${readable(path)} has not the SHA-256 that the server listed`);
  }

  /** Nothing more is to be compared. */
  end(): void {
    const [left] = this.#noted.keys();
    if (left === undefined) return;
    const others = this.#noted.size === 1 ? '' : ` and ${this.#noted.size - 1} other files`;
    throw this.#fail(`${readable(left)}${others} of archive or backup_manifest are not in the other`);
  }
}

function packed(sha256: string): string {
  return Buffer.from(sha256, 'hex').toString('latin1');
}
