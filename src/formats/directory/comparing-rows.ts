import { PgarkError } from '../../common/errors.ts';
import { RowsHash } from '../../pipeline/rows-hash.ts';
import type { Transform } from '../../pipeline/transform.ts';
import { TABLE_DATA_END } from '../../postgres/toc/toc.ts';
import type { ArchiveFile, RowsEvidence } from './contents.ts';

const NEWLINE = 0x0a;

/**
 * Lets the data file of a table, or of a piece of one, pass with what ends it if its rows have the hash that was recorded. As
 * of a digest, the last block is held back until that is known: nobody ever has all of rows that are not proven. Without a
 * recorded hash all passes. Error: `corrupt`, also for a last line without its end.
 */
export function comparingRows(
  { name, plainBytes }: Pick<ArchiveFile, 'name' | 'plainBytes'>,
  { hash: recorded }: Pick<RowsEvidence, 'hash'>,
): Transform {
  if (recorded === undefined) return (source) => source;
  return async function* compared(source) {
    const hash = new RowsHash();
    let leftBytes = plainBytes - TABLE_DATA_END.length;
    let isLineOpen = false;
    let heldBack: Uint8Array | undefined;
    for await (const block of source) {
      if (heldBack !== undefined) yield heldBack;
      const rows = block.subarray(0, Math.max(0, leftBytes));
      hash.update(rows);
      leftBytes -= rows.length;
      isLineOpen = rows.length > 0 ? rows.at(-1) !== NEWLINE : isLineOpen;
      heldBack = block;
    }
    const found = isLineOpen ? undefined : hash.digest();
    if (found !== recorded) {
      const what = found === undefined ? 'their last line has no end' : `their hash is ${found}`;
      throw new PgarkError('corrupt', `${name} holds other rows than were recorded: ${what}`);
    }
    if (heldBack !== undefined) yield heldBack;
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
