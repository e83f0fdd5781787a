import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import type { Transform } from '../../pipeline/transform.ts';
import { TABLE_DATA_END } from '../../postgres/toc/toc.ts';

/**
 * Takes off what ends the data of each table in a directory archive: `COPY` by itself has another end. Blocks before it
 * pass as they are. `plainBytes` is the length of the source. Error: `corrupt`, in place of the end, for any other end.
 */
export function withoutEndMark(plainBytes: number, what: string): Transform {
  const rowsBytes = plainBytes - TABLE_DATA_END.length;
  return async function* (source): ByteStream {
    let position = 0;
    let end = '';
    for await (const block of source) {
      const rows = Math.max(0, Math.min(block.length, rowsBytes - position));
      position += block.length;
      if (rows === block.length) {
        yield block;
        continue;
      }
      end += Buffer.from(block.buffer, block.byteOffset + rows, block.length - rows).toString('latin1');
      if (rows > 0) yield block.subarray(0, rows);
    }
    if (end === TABLE_DATA_END && position === plainBytes) return;
    throw new PgarkError('corrupt', `${what} does not end as the data of a table in an archive does`);
  };
}
