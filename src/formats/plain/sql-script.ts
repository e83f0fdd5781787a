import { releaseBlock } from '../../common/block-memory.ts';
import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import type { Transform } from '../../pipeline/transform.ts';
import { type OpenEnd, SqlScanner, type StatementEdit } from './sql-scanner.ts';

/** pg_dump and pg_dumpall write the first line at the top and the second at the end of every script. */
const HEAD_LINE = /^-- PostgreSQL database (cluster )?dump\r?$/m;
const TAIL_LINE = /^-- PostgreSQL database (cluster )?dump complete\r?$/m;
const HEAD_BYTES = 1024;
/** Of less, nothing can be told but that it is too short. */
const TOLD_BYTES_MIN = 32;
/** What lines of a script begin with that this tells from other text: comments, commands of psql, statements. */
const SQL_LINE =
  /^\s*(--|\/\*|\\|(set|create|alter|drop|insert|copy|select|begin|start|update|delete|grant|revoke|comment|truncate|do|with|lock|analyze|prepare|execute|call|values|savepoint|rollback|release|commit|end|abort|reset|refresh|import|security|vacuum|reindex)\b)/im;
const TAIL_BYTES = 4 * 1024;

/**
 * Leaves out the BEGIN and COMMIT of a script, so that it runs whole in the one transaction that is around it. Throws
 * `restore-failed` for commands that would undo it, and `corrupt` in place of the end if the script breaks off.
 */
export function withoutTransactionCommands(): Transform {
  return async function* withoutTransactions(source) {
    const scanner = new SqlScanner({ dropTransactions: true });
    yield* scanned(source, scanner);
    const { pieces, open } = scanner.end();
    refuseOpenEnd(open, 'the script');
    yield* pieces;
  };
}

/** Passes a script on with some of its statements edited. Breaks off where the script does, and says nothing of it. */
export function withStatementsEdited(edits: readonly StatementEdit[]): Transform {
  return async function* edited(source) {
    const scanner = new SqlScanner({ dropTransactions: false, edits });
    yield* scanned(source, scanner);
    yield* scanner.end().pieces;
  };
}

async function* scanned(source: ByteStream, scanner: SqlScanner): ByteStream {
  for await (const block of source) {
    const pieces = scanner.push(block);
    releaseBlock(block);
    yield* pieces;
  }
}

/**
 * Passes a script of some other tool unchanged and throws `corrupt` in place of its last bytes if it is truncated: in
 * the middle of a statement or of a table's rows (`restore-failed` if it does not look like a script at all), or without the closing line of a dump that began as pg_dump's do.
 * `what` names the script in the error.
 */
export function refuseTruncatedScript(what: string): Transform {
  return async function* whole(source) {
    const scanner = new SqlScanner({ dropTransactions: false });
    let head = '';
    let tail: Buffer = Buffer.alloc(0);
    for await (const block of source) {
      if (head.length < HEAD_BYTES) head += Buffer.from(block.subarray(0, HEAD_BYTES)).toString('latin1');
      for (const piece of scanner.push(block)) {
        const joined = tail.length === 0 ? piece : Buffer.concat([tail, piece]);
        const cut = Math.max(0, joined.length - TAIL_BYTES);
        if (cut > 0) yield joined.subarray(0, cut);
        tail = Buffer.from(joined.subarray(cut));
      }
    }
    const { pieces, open } = scanner.end();
    const last = Buffer.concat([tail, ...pieces]);
    if (open !== undefined && head.length >= TOLD_BYTES_MIN && !head.includes(';') && !SQL_LINE.test(head))
      throw noDump(what);
    refuseOpenEnd(open, what);
    if (HEAD_LINE.test(head.slice(0, HEAD_BYTES)) && !TAIL_LINE.test(last.toString('latin1'))) {
      throw new PgarkError(
        'corrupt',
        `${what} is truncated: it begins as pg_dump writes, and its closing line "PostgreSQL database dump complete" is missing`,
        { hint: 'restore another copy of it; what was loaded of this one was not kept' },
      );
    }
    if (last.length > 0) yield last;
  };
}

function noDump(what: string): PgarkError {
  return new PgarkError('restore-failed', `${what} does not look like a dump: it begins with no SQL`, {
    hint: 'name a plain SQL dump (.sql, also .gz, .zst, .age, .enc); pgark list shows those there are. Nothing was kept of this one',
  });
}

function refuseOpenEnd(open: OpenEnd, what: string): void {
  if (open === undefined) return;
  const where = open === 'rows' ? 'the rows of a table' : 'a statement';
  throw new PgarkError('corrupt', `${what} is truncated: it ends in the middle of ${where}`, {
    hint: 'restore another copy of it; what was loaded of this one was not kept',
  });
}
