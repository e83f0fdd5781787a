import { assert } from '../../common/errors.ts';
import { HEADER_BYTES } from '../protocol/message.ts';

const NULL_LENGTH = -1;

/** Values of a DataRow message in text format, in the order of its columns. `frame` has the header. */
export function readDataRow(frame: Buffer): readonly (string | null)[] {
  const values: (string | null)[] = [];
  let at = HEADER_BYTES;
  const columns = frame.readInt16BE(at);
  at += 2;
  for (let column = 0; column < columns; column += 1) {
    assert(at + 4 <= frame.length, 'a row holds as many values as it says');
    const bytes = frame.readInt32BE(at);
    at += 4;
    if (bytes === NULL_LENGTH) {
      values.push(null);
      continue;
    }
    assert(bytes >= 0 && at + bytes <= frame.length, 'a value lies within its row');
    values.push(frame.toString('utf8', at, at + bytes));
    at += bytes;
  }
  return values;
}
