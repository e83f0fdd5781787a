import { PgarkError } from '../../common/errors.ts';
import { RowsHash } from '../../pipeline/rows-hash.ts';
import type { Transform } from '../../pipeline/transform.ts';
import { TABLE_DATA_END } from '../../postgres/toc/toc.ts';
import type { ArchiveFile, RowsEvidence } from './contents.ts';

const NEWLINE = 0x0a;

/**
 * Lets the data file of a table, or of a piece of one, pass if its rows have the hash that was recorded, and what follows them is
 * what ends such a file. The block that the last row ends in is passed on only when all rows are proven. `plainBytes` is the
 * length of the file, which others compare. Without a recorded hash all passes. Error: `corrupt`.
 */
export function comparingRows(
  { name, plainBytes }: Pick<ArchiveFile, 'name' | 'plainBytes'>,
  { hash: recorded }: Pick<RowsEvidence, 'hash'>,
): Transform {
  if (recorded === undefined) return (source) => source;
  return async function* compared(source) {
    const hash = new RowsHash();
    let leftBytes = plainBytes - TABLE_DATA_END.length;
    let end = '';
    const compare = (last: number | undefined): void => {
      const found = last === undefined || last === NEWLINE ? hash.digest() : undefined;
      if (found === recorded) return;
      const what = found === undefined ? 'their last line has no end' : `their hash is ${found}`;
      throw new PgarkError('corrupt', `${name} holds other rows than were recorded: ${what}`);
    };
    if (leftBytes <= 0) compare(undefined);
    for await (const block of source) {
      const rows = block.subarray(0, Math.max(0, leftBytes));
      if (rows.length > 0) {
        hash.update(rows);
        leftBytes -= rows.length;
        if (leftBytes === 0) compare(rows.at(-1));
      }
      end += Buffer.from(block.buffer, block.byteOffset + rows.length, block.length - rows.length).toString('latin1');
      if (!TABLE_DATA_END.startsWith(end)) throw otherEnd(name);
      yield block;
    }
    if (end !== TABLE_DATA_END) throw otherEnd(name);
  };
}

function otherEnd(name: string): PgarkError {
  return new PgarkError('corrupt', `${name} does not end as the data of a table in an archive does`);
}

/** Counts rows: each is a line, since newlines within values are written in another way. Error: `corrupt` for another number. */
export function countingRows(name: string, { rows: recorded }: Pick<RowsEvidence, 'rows'>): Transform {
  return async function* counted(source) {
    let rows = 0;
    for await (const block of source) {
      for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, at + 1)) rows++;
      yield block;
    }
    if (rows === recorded) return;
    throw new PgarkError('corrupt', `${name} holds ${rows} rows, and ${recorded} were recorded`);
  };
}
