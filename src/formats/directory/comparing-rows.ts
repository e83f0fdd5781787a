import { PgarkError } from '../../common/errors.ts';
import { RowsHash } from '../../pipeline/rows-hash.ts';
import type { Transform } from '../../pipeline/transform.ts';
import type { ArchiveFile, RowsEvidence } from './contents.ts';
import { RowsBeforeEnd } from './end-mark.ts';

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
    const data = new RowsBeforeEnd(plainBytes, name);
    let isProven = false;
    const prove = (): void => {
      const found = hash.isWhole ? hash.digest() : undefined;
      isProven = found === recorded;
      if (isProven) return;
      const what = found === undefined ? 'their last line has no end' : `their hash is ${found}`;
      throw new PgarkError('corrupt', `${name} holds other rows than were recorded: ${what}`);
    };
    for await (const block of source) {
      hash.update(data.take(block));
      if (data.hasAllRows && !isProven) prove();
      yield block;
    }
    data.finish();
  };
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
