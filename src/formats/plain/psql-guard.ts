import { partOf, releaseBlock } from '../../common/block-memory.ts';
import type { ByteStream } from '../../common/bytes.ts';
import type { Transform } from '../../pipeline/transform.ts';
import { withoutTransactionCommands } from './sql-script.ts';

/** Where pg_dump's own `\restrict` line stands: after a few comment lines, before the first statement. */
const HEAD_BYTES_MAX = 16 * 1024;
/** Where its `\unrestrict` line stands: the last lines of the file. */
const TAIL_BYTES = 4 * 1024;

/**
 * Makes psql run a dump without letting the dump run psql's commands (CVE-2025-8714: `\!` and its like run programs on
 * the machine that restores). `\restrict KEY` with a key that the dump cannot know goes before everything; while it is
 * in force psql refuses every backslash command but `\unrestrict KEY`. pg_dump's own pair of lines, whose key stands in
 * the file for anybody to use, is taken out: at the top, and at the very end. Any other one makes psql stop with an error.
 *
 * The lines of the dump keep their numbers but for those that `prefix` takes.
 */
export function guardPsqlScript(key: string, options: GuardOptions = {}): Transform {
  return async function* guarded(source) {
    yield Buffer.from(guardPrefix(key, options));
    const script = withoutRestrictPair(source);
    yield* options.singleTransaction === true ? withoutTransactionCommands()(script) : script;
    if (options.singleTransaction === true) yield Buffer.from('\nCOMMIT;\n');
  };
}

export interface GuardOptions {
  /** Our own SQL, run before the dump's first line. */
  readonly preamble?: string | undefined;
  /**
   * All in one transaction. Its COMMIT is the last line that is written, after the source has ended well: if this process
   * is killed, psql meets the end of its input and leaves without it. (psql's own --single-transaction commits there, as
   * if the script had been whole.)
   */
  readonly singleTransaction?: boolean;
}

/** What stands before the dump's first line. */
export function guardPrefix(key: string, { preamble = '', singleTransaction = false }: GuardOptions = {}): string {
  return `\\restrict ${key}\n${singleTransaction ? 'BEGIN;\n' : ''}${preamble}`;
}

async function* withoutRestrictPair(source: ByteStream): ByteStream {
  let head: Buffer | undefined = Buffer.alloc(0);
  let tail: Buffer = Buffer.alloc(0);
  let ownKey: string | undefined;
  for await (const block of source) {
    let piece = block;
    if (head !== undefined) {
      head = joined(head, block);
      if (head.length < HEAD_BYTES_MAX) continue;
      [piece, ownKey] = takeRestrictLine(head);
      head = undefined;
    }
    // Hold back as much as the last lines may take; without a pair to take out there is nothing to look for.
    if (ownKey === undefined) {
      yield piece;
      continue;
    }
    if (piece.length < TAIL_BYTES) piece = joined(tail, piece);
    else if (tail.length > 0) yield tail;
    const cut = Math.max(0, piece.length - TAIL_BYTES);
    tail = Buffer.from(piece.subarray(cut));
    if (cut > 0) yield partOf(piece, 0, cut);
    releaseBlock(piece);
  }
  if (head !== undefined) [tail, ownKey] = takeRestrictLine(head);
  if (ownKey !== undefined) tail = dropLastLine(tail, `\\unrestrict ${ownKey}`);
  yield tail;
}

function joined(held: Buffer, block: Uint8Array): Buffer {
  const both = Buffer.concat([held, block]);
  releaseBlock(block);
  return both;
}

/** Takes pg_dump's `\restrict KEY` out of the comment lines at the top of a dump; its line stays, empty. */
function takeRestrictLine(head: Buffer): [Buffer, string | undefined] {
  let start = 0;
  while (start < head.length) {
    const newline = head.indexOf(0x0a, start);
    const end = newline < 0 ? head.length : newline;
    const line = head.toString('latin1', start, end).replace(/\r$/, '');
    const match = /^\\restrict ([A-Za-z0-9]+)$/.exec(line);
    if (match) return [Buffer.concat([head.subarray(0, start), head.subarray(end)]), match[1]];
    if (line !== '' && !line.startsWith('--')) break;
    start = end + 1;
  }
  return [head, undefined];
}

function dropLastLine(tail: Buffer, line: string): Buffer {
  const at = tail.lastIndexOf(`\n${line}`);
  if (at < 0) return tail;
  const after = tail.subarray(at + 1 + line.length);
  return /^\s*$/.test(after.toString('latin1')) ? Buffer.concat([tail.subarray(0, at + 1), after]) : tail;
}
