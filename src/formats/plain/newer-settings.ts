import type { ByteStream } from '../../common/bytes.ts';
import type { Transform } from '../../pipeline/transform.ts';

/** Where pg_dump's settings stand: after a few comment lines, before the first statement. */
const HEAD_BYTES_MAX = 16 * 1024;
/** pg_dump 17 and newer write it whatever server they dump; servers before 17 reject it. */
const TRANSACTION_TIMEOUT = 'SET transaction_timeout = 0;';
const TRANSACTION_TIMEOUT_SINCE = 17;
/** What stands before it, see `_doSetFixedOutputState` in pg_dump: comments, `\restrict`, settings. */
const LINE_OF_HEAD = /^(--.*|\\restrict [A-Za-z0-9]+|SET \w+ = (\w+|'[^']*');)?$/;

/**
 * Comments out what pg_dump writes at the top of every dump and a server of this major version does not know, so that
 * it loads there: it only asks for what such a server does anyway. The text keeps its length and its lines.
 */
export function withoutNewerSettings(serverMajor: number): Transform {
  return (source) => (serverMajor >= TRANSACTION_TIMEOUT_SINCE ? source : withoutTransactionTimeout(source));
}

async function* withoutTransactionTimeout(source: ByteStream): ByteStream {
  let head: Uint8Array | undefined = new Uint8Array(0);
  for await (const block of source) {
    if (head === undefined) {
      yield block;
      continue;
    }
    // Mostly the first block is all of it, and passes as it is.
    head = head.length === 0 ? block : Buffer.concat([head, block]);
    if (head.length < HEAD_BYTES_MAX) continue;
    commentOut(head);
    yield head;
    head = undefined;
  }
  if (head === undefined || head.length === 0) return;
  commentOut(head);
  yield head;
}

function commentOut(head: Uint8Array): void {
  const text = Buffer.from(head.buffer, head.byteOffset, Math.min(head.length, HEAD_BYTES_MAX));
  let start = 0;
  for (;;) {
    const newline = text.indexOf(0x0a, start);
    if (newline < 0) return;
    const line = text.toString('latin1', start, newline).replace(/\r$/, '');
    if (line === TRANSACTION_TIMEOUT) {
      text.write('--  ', start);
      return;
    }
    if (!LINE_OF_HEAD.test(line)) return;
    start = newline + 1;
  }
}
