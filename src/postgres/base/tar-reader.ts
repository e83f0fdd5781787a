import { PgarkError } from '../../common/errors.ts';
import { readable } from '../toc/byte-string.ts';
import { isZeroBlock, readTarHeader, TAR_BLOCK_BYTES, type TarEntry } from './tar-header.ts';

/** What takes an archive as a `TarReader` finds it. What it throws passes through `push`. */
export interface TarHandler {
  /** A file, a directory or a link begins. The content of a file follows, then `ended`. */
  begun(entry: TarEntry): void;
  /** A piece of the file's content, a view of the block that was pushed. */
  content(piece: Uint8Array): void;
  /** The file's content is complete; of directories and links at once. */
  ended(): void;
}

/**
 * Takes apart a tar archive of a base backup, in blocks of any length, and keeps no more of it than a header. Errors:
 * `corrupt` for what PostgreSQL does not write, and for an archive that breaks off; the reader is useless then.
 */
export class TarReader {
  readonly #handler: TarHandler;
  readonly #what: string;
  readonly #header = Buffer.alloc(TAR_BLOCK_BYTES);
  #headerBytes = 0;
  /** Of the content, and of the zeros that fill its last block, what is still to come. */
  #contentBytes = 0;
  #paddingBytes = 0;
  #name = '';
  #atEndMark = false;

  /** `what` names the archive for messages. */
  constructor(handler: TarHandler, what: string) {
    this.#handler = handler;
    this.#what = what;
  }

  push(block: Uint8Array): void {
    for (let at = 0; at < block.length; ) {
      if (this.#contentBytes > 0) at += this.#takeContent(block.subarray(at, at + this.#contentBytes));
      else if (this.#paddingBytes > 0) at += this.#takePadding(Math.min(this.#paddingBytes, block.length - at));
      else at += this.#takeHeader(block.subarray(at, at + TAR_BLOCK_BYTES - this.#headerBytes));
    }
  }

  /**
   * Nothing more comes. Before PostgreSQL 15 the server sends no end mark, so that an archive may end wherever a header
   * could stand: whether anything is missing, only a list of its files can tell.
   */
  end(): void {
    const inside = this.#contentBytes > 0 ? `${this.#contentBytes} bytes before the end of ${this.#name}` : undefined;
    const between = this.#paddingBytes > 0 || this.#headerBytes > 0 ? 'within a block' : undefined;
    const where = inside ?? between;
    if (where !== undefined) throw new PgarkError('corrupt', `${this.#what} is truncated: it ends ${where}`);
  }

  #takeContent(piece: Uint8Array): number {
    this.#contentBytes -= piece.length;
    this.#handler.content(piece);
    if (this.#contentBytes === 0) this.#handler.ended();
    return piece.length;
  }

  #takePadding(bytes: number): number {
    this.#paddingBytes -= bytes;
    return bytes;
  }

  #takeHeader(piece: Uint8Array): number {
    this.#header.set(piece, this.#headerBytes);
    this.#headerBytes += piece.length;
    if (this.#headerBytes === TAR_BLOCK_BYTES) this.#readHeader();
    return piece.length;
  }

  #readHeader(): void {
    this.#headerBytes = 0;
    if (isZeroBlock(this.#header)) {
      this.#atEndMark = true;
      return;
    }
    if (this.#atEndMark) throw new PgarkError('corrupt', `${this.#what} is damaged: it goes on behind its end mark`);
    const entry = readTarHeader(this.#header, this.#what);
    this.#name = readable(entry.name);
    this.#contentBytes = entry.bytes;
    this.#paddingBytes = (TAR_BLOCK_BYTES - (entry.bytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
    this.#handler.begun(entry);
    if (entry.bytes === 0) this.#handler.ended();
  }
}
