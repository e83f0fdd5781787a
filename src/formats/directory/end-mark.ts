import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import type { Transform } from '../../pipeline/transform.ts';
import { TABLE_DATA_END } from '../../postgres/toc/toc.ts';

/** Tells rows and what ends them apart in the data of a table in a directory archive, block by block. */
export class RowsBeforeEnd {
  readonly #what: string;
  #rowBytesLeft: number;
  #end = '';

  /** `plainBytes` is the length of the data; `what` names it in errors. */
  constructor(plainBytes: number, what: string) {
    this.#what = what;
    this.#rowBytesLeft = plainBytes - TABLE_DATA_END.length;
  }

  /** Whether all bytes of rows have been taken. */
  get hasAllRows(): boolean {
    return this.#rowBytesLeft === 0;
  }

  /** What of the next block is rows: its beginning, if not all of it. Error: `corrupt` for another end. */
  take(block: Uint8Array): Uint8Array {
    const rows = block.subarray(0, Math.max(0, this.#rowBytesLeft));
    this.#rowBytesLeft -= rows.length;
    const rest = Buffer.from(block.buffer, block.byteOffset + rows.length, block.length - rows.length);
    this.#end += rest.toString('latin1');
    if (!TABLE_DATA_END.startsWith(this.#end)) throw this.#otherEnd();
    return rows;
  }

  /** Error: `corrupt` unless all rows and what ends them have been taken. */
  finish(): void {
    if (!this.hasAllRows || this.#end !== TABLE_DATA_END) throw this.#otherEnd();
  }

  #otherEnd(): PgarkError {
    return new PgarkError('corrupt', `${this.#what} does not end as the data of a table in an archive does`);
  }
}

/**
 * Takes off what ends the data of each table in a directory archive: `COPY` by itself has another end. Blocks before it
 * pass as they are. `plainBytes` is the length of the source. Error: `corrupt`, in place of the end, for any other end.
 */
export function withoutEndMark(plainBytes: number, what: string): Transform {
  return async function* (source): ByteStream {
    const data = new RowsBeforeEnd(plainBytes, what);
    for await (const block of source) {
      const rows = data.take(block);
      if (rows.length === block.length) yield block;
      else if (rows.length > 0) yield rows;
    }
    data.finish();
  };
}
