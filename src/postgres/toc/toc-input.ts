import { formatBytes } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { byteStringOf, type ByteString } from './byte-string.ts';
import { INTEGER_BYTES } from './toc.ts';

/** A step of reading that asks for the next chunk (`yield`) where the ones before do not hold enough. */
export type Reading<Result> = Generator<undefined, Result, Uint8Array>;

export function damagedToc(why: string): PgarkError {
  return new PgarkError('corrupt', `the archive’s table of contents is damaged: ${why}`);
}

const NOTHING = Buffer.alloc(0);
const INTEGER_MAX = 2 ** 31 - 1;
/** Of a string that is not there. */
const ABSENT_LENGTH = -1;

/**
 * The values that an archive's header and table of contents are made of, as `ReadInt` and `ReadStr` in PostgreSQL's
 * pg_backup_archiver.c read them, but that every value has one form only, the one that pg_dump writes: other forms are
 * damage, and so what was read can be written again byte for byte. Nothing is allocated for what has not come yet.
 */
export class TocInput {
  readonly #bytesMax: number;
  #chunk: Buffer = NOTHING;
  #offset = 0;
  #takenBytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** How many bytes have been read. */
  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** How many bytes of the last chunk are not read yet. */
  get restBytes(): number {
    return this.#chunk.length - this.#offset;
  }

  *take(bytes: number): Reading<Buffer> {
    if (bytes > this.#bytesMax - this.#takenBytes) {
      throw new PgarkError(
        'archive-unsupported',
        `the archive’s table of contents is longer than the ${formatBytes(this.#bytesMax)} that are read, or damaged at byte ${this.#takenBytes}`,
      );
    }
    const pieces: Buffer[] = [];
    for (let missingBytes = bytes; ; ) {
      const piece = this.#chunk.subarray(this.#offset, this.#offset + missingBytes);
      this.#offset += piece.length;
      this.#takenBytes += piece.length;
      missingBytes -= piece.length;
      if (missingBytes === 0 && pieces.length === 0) return piece;
      pieces.push(piece);
      if (missingBytes === 0) return Buffer.concat(pieces, bytes);
      const next = yield;
      this.#chunk = Buffer.from(next.buffer, next.byteOffset, next.byteLength);
      this.#offset = 0;
    }
  }

  *byte(): Reading<number> {
    return (yield* this.take(1)).readUInt8(0);
  }

  /** A byte of sign and four of magnitude, lowest first. */
  *integer(): Reading<number> {
    const bytes = yield* this.take(1 + INTEGER_BYTES);
    const sign = bytes.readUInt8(0);
    const magnitude = bytes.readUInt32LE(1);
    if (sign > 1 || magnitude > INTEGER_MAX || (sign === 1 && magnitude === 0)) throw this.#damaged('is no integer');
    return sign === 1 ? -magnitude : magnitude;
  }

  /** An integer of its length, and its bytes. */
  *text(): Reading<ByteString | null> {
    const length = yield* this.integer();
    if (length === ABSENT_LENGTH) return null;
    if (length < 0) throw this.#damaged('is the length of a string, and negative');
    const bytes = yield* this.take(length);
    if (bytes.includes(0)) throw this.#damaged('ends a string that holds a zero byte');
    return byteStringOf(bytes);
  }

  /** A string that is always there. */
  *requiredText(): Reading<ByteString> {
    const text = yield* this.text();
    if (text === null) throw this.#damaged('says that a string is absent which every entry has');
    return text;
  }

  /** A decimal number in a string; null for an absent string. */
  *decimal(max: number): Reading<number | null> {
    const text = yield* this.text();
    if (text === null) return null;
    const value = Number(text);
    if (!/^(0|[1-9]\d{0,9})$/.test(text) || value > max) throw this.#damaged('ends a string that is no such number');
    return value;
  }

  /** What pg_dump writes of a choice. */
  oneOf<Value extends number>(values: readonly Value[], value: number, what: string): Value {
    const found = values.find((each) => each === value);
    if (found === undefined) throw this.#damaged(`is ${what}, and ${value}`);
    return found;
  }

  #damaged(what: string): PgarkError {
    return damagedToc(`what lies before byte ${this.#takenBytes} ${what}`);
  }
}
