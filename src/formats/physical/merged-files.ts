import { PgarkError } from '../../common/errors.ts';
import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';
import type { ChangedBlocks } from './incremental-file.ts';
import type { TargetFolder } from './target-files.ts';

/** A file that the newest backup of a chain has the changed blocks of, on its way to be whole. */
export class MergedFile {
  readonly target: TargetFolder;
  /** In its folder. */
  readonly name: ByteString;
  readonly bytes: number;
  readonly #blockBytes: number;
  /** Blocks from this one on are in the newest backup, or zeros. */
  readonly #limit: number;
  /** Number of the blocks below the limit that are still to come. */
  #missing: number;
  /** A bit for each block below the limit that is there; undefined while none is. */
  #present: Uint8Array | undefined;
  /** The backup of the chain that had the file last, by its place there. */
  #seenIn = 0;
  /** Of the whole content, where it passed in one piece. */
  sha256: string | undefined;

  constructor(
    place: { readonly target: TargetFolder; readonly name: ByteString },
    { numbers, truncatedBlocks }: ChangedBlocks,
    blockBytes: number,
  ) {
    this.target = place.target;
    this.name = place.name;
    this.#blockBytes = blockBytes;
    this.#limit = truncatedBlocks;
    this.#missing = truncatedBlocks;
    this.bytes = numbers.reduce((most, number) => Math.max(most, number + 1), truncatedBlocks) * blockBytes;
    for (const number of numbers) this.#mark(number);
  }

  get isComplete(): boolean {
    return this.#missing === 0;
  }

  /** Whether all of it is still to come, so that an older file of this length is it as a whole. */
  get isUntouched(): boolean {
    return this.#present === undefined && this.#limit * this.#blockBytes === this.bytes;
  }

  wants(number: number): boolean {
    return number < this.#limit && !this.#has(number);
  }

  /** A backup had these blocks of it, and all that were wanted were written. */
  came(numbers: readonly number[], link: number): void {
    this.#seenIn = link;
    for (const number of numbers) this.#mark(number);
  }

  /** A backup had it whole: what is missing now is zeros. */
  cameWhole(): void {
    this.#missing = 0;
    this.#present = undefined;
  }

  wasSeenIn(link: number): boolean {
    return this.#seenIn === link;
  }

  #has(number: number): boolean {
    return this.#present !== undefined && ((this.#present[number >> 3] ?? 0) & (1 << (number & 7))) !== 0;
  }

  #mark(number: number): void {
    if (!this.wants(number)) return;
    this.#present ??= new Uint8Array(Math.ceil(this.#limit / 8));
    this.#present[number >> 3] = (this.#present[number >> 3] ?? 0) | (1 << (number & 7));
    this.#missing -= 1;
  }
}

/** The files of a chain that are made of several backups', by their paths in the backup_manifest of a whole one. */
export class MergedFiles {
  readonly #all = new Map<ByteString, MergedFile>();
  readonly #pending = new Map<ByteString, MergedFile>();

  get all(): ReadonlyMap<ByteString, MergedFile> {
    return this.#all;
  }

  add(path: ByteString, file: MergedFile): void {
    this.#all.set(path, file);
    if (!file.isComplete) this.#pending.set(path, file);
  }

  /** One that something is missing of. */
  pending(path: ByteString): MergedFile | undefined {
    return this.#pending.get(path);
  }

  /** After a backup that is not the newest one. Error: `corrupt` if it did not have what it had to. */
  endLink(link: number, backup: string, isFull: boolean): void {
    for (const [path, file] of this.#pending) {
      if (file.isComplete) this.#pending.delete(path);
      else if (isFull || !file.wasSeenIn(link)) {
        throw new PgarkError(
          'corrupt',
          `backup ${backup} has not ${readable(path)}, which the next one of its chain relies on`,
          { hint: 'restore another backup, pgark list shows them' },
        );
      }
    }
  }
}
