import { assert } from '../../common/errors.ts';
import { HEADER_BYTES, MESSAGE } from './message.ts';

/**
 * Follows the messages of one COPY, which come in one order only. What is no COPY of the kind expected, or several
 * statements, is a defect of ours.
 */
export class CopyAnswer {
  readonly #expected: number[];
  #rows: number | undefined;

  constructor(direction: 'in' | 'out') {
    this.#expected =
      direction === 'in'
        ? [MESSAGE.copyInResponse, MESSAGE.commandComplete]
        : [MESSAGE.copyOutResponse, MESSAGE.copyDone, MESSAGE.commandComplete];
  }

  message(type: number, frame: Buffer): void {
    assert(this.#expected.shift() === type, 'the statement is one COPY of that direction');
    if (type === MESSAGE.commandComplete) this.#rows = rowsOfTag(frame);
  }

  /** Rows as the server counted them, once it has; undefined too for a command that has none, as UPLOAD_MANIFEST. */
  get rows(): number | undefined {
    return this.#rows;
  }
}

/** CommandComplete's tag, of a COPY `COPY` and the number of rows, ends with a zero byte. */
function rowsOfTag(frame: Buffer): number | undefined {
  const tag = frame.toString('latin1', HEADER_BYTES, frame.length - 1);
  const digits = /^COPY (\d+)$/.exec(tag)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
