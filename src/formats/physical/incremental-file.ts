import { PgarkError } from '../../common/errors.ts';
import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';

/** What the names begin with of files that hold the changed blocks of a relation's segment. */
const PREFIX = 'INCREMENTAL.';
/** Folders in which there are relations; elsewhere a name says nothing. */
const RELATIONS = /^(base|global|pg_tblspc)\//;

const MAGIC = 0xd3ae1f0d;
/** Magic, number of blocks, truncated length; then the numbers of the blocks. Each has four bytes, the lowest first. */
const FIXED_BYTES = 12;
const NUMBER_BYTES = 4;
/** No server has segments of more blocks: 128 GiB of the usual ones. */
const BLOCKS_MAX = 2 ** 24;

/** `base/5/1259` for `base/5/INCREMENTAL.1259`; undefined for a file that is whole. Paths are those of a backup_manifest. */
export function pathOfIncremental(path: ByteString): ByteString | undefined {
  const nameAt = path.lastIndexOf('/') + 1;
  if (!path.startsWith(PREFIX, nameAt) || !RELATIONS.test(path)) return undefined;
  return (path.slice(0, nameAt) + path.slice(nameAt + PREFIX.length)) as ByteString;
}

/** What the head of an incremental file says. */
export interface ChangedBlocks {
  /** Numbers of the blocks that the file holds, in its order. */
  readonly numbers: readonly number[];
  /** Blocks below this one that the file does not hold are those of the backup before; further ones are zeros. */
  readonly truncatedBlocks: number;
}

/**
 * Takes the head of an incremental file apart, in pieces of any length (PostgreSQL's src/backend/backup/
 * basebackup_incremental.c). What follows it are the blocks. Errors: `corrupt` for a file that is none, or of blocks of
 * another size.
 */
export class IncrementalHead {
  readonly #bytes: number;
  readonly #blockBytes: number;
  readonly #path: ByteString;
  #head = Buffer.alloc(0);
  #headBytes = FIXED_BYTES;
  #changed: ChangedBlocks | undefined;

  /** `bytes`: of the whole file. */
  constructor(file: { readonly path: ByteString; readonly bytes: number; readonly blockBytes: number }) {
    this.#path = file.path;
    this.#bytes = file.bytes;
    this.#blockBytes = file.blockBytes;
  }

  /** Takes what it needs of the piece, and gives back the rest, which is of the blocks. */
  push(piece: Uint8Array): Uint8Array {
    let rest = piece;
    while (this.#changed === undefined && rest.length > 0) {
      const part = rest.subarray(0, this.#headBytes - this.#head.length);
      this.#head = Buffer.concat([this.#head, part]);
      rest = rest.subarray(part.length);
      if (this.#head.length === this.#headBytes) this.#read();
    }
    return rest;
  }

  /** Error: `corrupt` for a file that has ended before its head has. */
  get changed(): ChangedBlocks {
    if (this.#changed !== undefined) return this.#changed;
    throw this.#damaged('it is truncated');
  }

  get isComplete(): boolean {
    return this.#changed !== undefined;
  }

  #read(): void {
    const count = this.#head.readUInt32LE(NUMBER_BYTES);
    if (this.#headBytes === FIXED_BYTES) {
      if (this.#head.readUInt32LE(0) !== MAGIC) throw this.#damaged('it does not begin as one');
      if (count > BLOCKS_MAX) throw this.#damaged(`${count} blocks are too many`);
      const numbersEnd = FIXED_BYTES + NUMBER_BYTES * count;
      // Blocks begin where a block could.
      this.#headBytes = count === 0 ? FIXED_BYTES : Math.ceil(numbersEnd / this.#blockBytes) * this.#blockBytes;
      if (this.#headBytes + count * this.#blockBytes !== this.#bytes) {
        throw this.#damaged(`it has ${this.#bytes} bytes, and ${count} blocks of ${this.#blockBytes}`);
      }
      if (count > 0) return;
    }
    const truncatedBlocks = this.#head.readUInt32LE(2 * NUMBER_BYTES);
    const numbers = Array.from({ length: count }, (_, index) =>
      this.#head.readUInt32LE(FIXED_BYTES + NUMBER_BYTES * index),
    );
    const tooFar = [truncatedBlocks, ...numbers].find((number) => number > BLOCKS_MAX);
    if (tooFar !== undefined) throw this.#damaged(`there is no block ${tooFar}`);
    this.#changed = { numbers, truncatedBlocks };
    this.#head = Buffer.alloc(0);
  }

  #damaged(why: string): PgarkError {
    return new PgarkError('corrupt', `${readable(this.#path)} is no incremental file: ${why}`);
  }
}

/** Bytes of a piece that belong together in the file that is made. */
export interface Placed {
  /** Offsets in the piece. */
  readonly from: number;
  readonly to: number;
  /** Offset in the file. */
  readonly at: number;
}

/**
 * Where a piece of a sequence of blocks goes: `start` is its offset in that sequence, and `numberOf` tells the number in the
 * file of each block of it, or undefined for one that is not wanted. Neighbours come together.
 */
export function* placePiece(
  start: number,
  bytes: number,
  blockBytes: number,
  numberOf: (index: number) => number | undefined,
): Generator<Placed> {
  let run: { from: number; to: number; at: number } | undefined;
  for (let from = 0; from < bytes; ) {
    const offset = start + from;
    const index = Math.floor(offset / blockBytes);
    const to = Math.min(bytes, (index + 1) * blockBytes - start);
    const number = numberOf(index);
    const at = number === undefined ? undefined : number * blockBytes + (offset - index * blockBytes);
    if (run !== undefined && at === run.at + (run.to - run.from)) run.to = to;
    else {
      if (run !== undefined) yield run;
      run = at === undefined ? undefined : { from, to, at };
    }
    from = to;
  }
  if (run !== undefined) yield run;
}
