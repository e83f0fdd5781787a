import { partOf } from '../../common/block-memory.ts';
import { PgarkError } from '../../common/errors.ts';
import { DOLLAR, isSpace, isWordByte, isWordStart } from './sql-bytes.ts';

/** What stands open where a script breaks off; undefined between two statements. */
export type OpenEnd = 'rows' | 'statement' | undefined;

type State =
  | { readonly kind: 'sql' | 'name' | 'line-comment' | 'rows' }
  | { readonly kind: 'string'; readonly escapes: boolean }
  | { readonly kind: 'dollar'; readonly end: Buffer }
  | { readonly kind: 'block-comment'; depth: number };

const SQL: State = { kind: 'sql' };
const [NEWLINE, RETURN, QUOTE, DOUBLE_QUOTE, BACKSLASH] = [0x0a, 0x0d, 0x27, 0x22, 0x5c];
const [OPEN, CLOSE, SEMICOLON, DASH, SLASH, STAR] = [0x28, 0x29, 0x3b, 0x2d, 0x2f, 0x2a];
/** The line that ends the rows of COPY FROM STDIN, from the newline before it, without its own. */
const ROWS_END = Buffer.from('\n\\.');
/** Words of a statement outside of parentheses that are kept to tell what it is. */
const WORDS_MAX = 16;
/** Statements that are told by their text are shorter than this. */
const SHORT_STATEMENT_BYTES = 512;
/** Longer than any name; more of it is not waited for. */
const WORD_BYTES_MAX = 64 * 1024;

/** The words that tell a statement to be edited, with the blanks between them. */
const EDIT_WORDS_BYTES_MAX = 64;
/** Statements that may be edited are shorter than this. */
const EDITED_STATEMENT_BYTES_MAX = 8 * 1024;
/** A statement without comments and dollar quotes, to its semicolon; a doubled quote reads as two strings. */
const WHOLE_STATEMENT = /^(?:[^;"']|"[^"]*"|'[^']*')*;/;

/** A change to statements of one kind, which a dump writes on its own and without comments. */
export interface StatementEdit {
  /** Matches the beginning of every statement that is looked at; its words are not long. */
  readonly begins: RegExp;
  /** The statement, from its first word to its semicolon, as it is to be; bytes as latin1. */
  readonly edit: (statement: string) => string;
}

/** Commands around a transaction: our own takes their place. */
const DROPPED = /^(begin|start\s+transaction|commit|end)(\s[^;]*)?;$/i;
/** Commands that would undo what was loaded, or put the end of the transaction into other hands. */
const REFUSED = /^(rollback(?!.*\bto\b)|abort|prepare\s+transaction|commit\s+prepared)\b[^;]*;$/is;
const STANDARD_STRINGS = /^set\s+(?:session\s+)?standard_conforming_strings\s*(?:=|to\s)\s*'?(\w+)'?\s*;$/i;

/** Of a block, as much as is copied to go on with what was held back of the one before it. */
const JOINED_BYTES = 1024;

/** More bytes are needed to tell what begins at this one. */
const NEEDS_MORE = -1;

/**
 * Follows a psql script statement by statement, by the rules of psql's own scanner (src/fe_utils/psqlscan.l): strings
 * with and without escapes, quoted names, dollar quotes, nested comments, parentheses, bodies of SQL-standard functions,
 * and the rows behind COPY FROM STDIN. It knows where the script stands when it breaks off, and can leave out the
 * commands that would end a transaction around it: pg_dump itself writes BEGIN and COMMIT around large objects.
 *
 * Blocks go in as they come, cut anywhere; the very bytes come out, but for statements that were left out.
 */
export class SqlScanner {
  readonly #dropTransactions: boolean;
  readonly #edits: readonly StatementEdit[];
  #state: State = SQL;
  /** What was read and not yet understood. */
  #carry: Buffer = Buffer.alloc(0);
  #text: Buffer = Buffer.alloc(0);
  /** The block that the text lies in, and where; undefined if it is a copy. */
  #source: { readonly block: Uint8Array; readonly start: number } | undefined;
  #out: Uint8Array[] = [];
  /** First byte of the text that has not been passed on. */
  #from = 0;
  #final = false;
  #begun = false;
  #words: string[] = [];
  #depth = 0;
  #bodyDepth = 0;
  #standardStrings = true;
  #rowsFollow = false;

  constructor(options: { readonly dropTransactions: boolean; readonly edits?: readonly StatementEdit[] }) {
    this.#dropTransactions = options.dropTransactions;
    this.#edits = options.edits ?? [];
  }

  /**
   * What can be passed on by now: copies and parts of the block (`partOf`), which the caller may release then. Error:
   * `restore-failed` for a command that would undo the transaction.
   */
  push(block: Uint8Array): Uint8Array[] {
    const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
    const pieces = this.#carry.length === 0 ? this.#scanBlock(block, 0) : this.#pushJoined(block, bytes);
    this.#carry = Buffer.from(this.#carry);
    return pieces;
  }

  #pushJoined(block: Uint8Array, bytes: Buffer): Uint8Array[] {
    // Mostly the rest of a line: what follows is understood with the block's beginning, and the block need not be copied.
    const start = bytes.subarray(0, JOINED_BYTES);
    const pieces = this.#scan(Buffer.concat([this.#carry, start]));
    if (start.length === bytes.length) return pieces;
    const at = start.length - this.#carry.length;
    if (at >= 0) return [...pieces, ...this.#scanBlock(block, at)];
    return [...pieces, ...this.#scan(Buffer.concat([this.#carry, bytes.subarray(start.length)]))];
  }

  /** Ends the script: what was still held back, and what stands open. */
  end(): { readonly pieces: Uint8Array[]; readonly open: OpenEnd } {
    this.#final = true;
    const pieces = this.#scan(this.#carry);
    return { pieces, open: this.#openEnd() };
  }

  #openEnd(): OpenEnd {
    switch (this.#state.kind) {
      case 'rows':
        // The last line may lack its newline.
        return this.#text.subarray(-ROWS_END.length).equals(ROWS_END) ? undefined : 'rows';
      case 'sql':
      case 'line-comment':
        return this.#rowsFollow ? 'rows' : this.#begun ? 'statement' : undefined;
      case 'name':
      case 'string':
      case 'dollar':
      case 'block-comment':
        return 'statement';
      default:
        return this.#state satisfies never;
    }
  }

  #scanBlock(block: Uint8Array, start: number): Uint8Array[] {
    this.#source = { block, start };
    const pieces = this.#scan(Buffer.from(block.buffer, block.byteOffset + start, block.byteLength - start));
    this.#source = undefined;
    return pieces;
  }

  #scan(text: Buffer): Uint8Array[] {
    this.#text = text;
    this.#out = [];
    this.#from = 0;
    let at = 0;
    while (at < this.#text.length) {
      const next = this.#step(at);
      if (next === NEEDS_MORE) break;
      at = next;
    }
    this.#emit(this.#final ? this.#text.length : at);
    this.#carry = this.#text.subarray(at);
    return this.#out;
  }

  #emit(to: number): void {
    const [from, source] = [this.#from, this.#source];
    this.#from = to;
    if (to <= from) return;
    if (source === undefined) this.#out.push(this.#text.subarray(from, to));
    else this.#out.push(partOf(source.block, source.start + from, source.start + to));
  }

  /** Understands what stands at a byte, and returns where the next step begins, or NEEDS_MORE. */
  #step(at: number): number {
    const state = this.#state;
    switch (state.kind) {
      case 'sql':
        return this.#readSql(at);
      case 'name':
        return this.#skipTo(DOUBLE_QUOTE, at, 1);
      case 'line-comment':
        return this.#skipTo(NEWLINE, at, 0);
      case 'string':
        return state.escapes ? this.#readEscapedString(at) : this.#readString(at);
      case 'dollar':
        return this.#readDollar(at, state.end);
      case 'block-comment':
        return this.#readBlockComment(at, state);
      case 'rows':
        return this.#readRows(at);
      default:
        return state satisfies never;
    }
  }

  /** The byte at a place; undefined behind the end of the script, NEEDS_MORE where it has not come yet. */
  #peek(at: number): number | undefined {
    return this.#text[at] ?? (this.#final ? undefined : NEEDS_MORE);
  }

  #enter(state: State, at: number): number {
    this.#state = state;
    return at;
  }

  #skipTo(byte: number, at: number, past: 0 | 1): number {
    const found = this.#text.indexOf(byte, at);
    return found < 0 ? this.#text.length : this.#enter(SQL, found + past);
  }

  #readSql(at: number): number {
    const byte = this.#text[at] ?? 0;
    if (isWordStart(byte)) return this.#readWord(at);
    switch (byte) {
      case NEWLINE:
        if (!this.#rowsFollow) return at + 1;
        this.#rowsFollow = false;
        return this.#enter({ kind: 'rows' }, at);
      case RETURN:
      case 0x20:
      case 0x09:
      case 0x0b:
      case 0x0c:
        return at + 1;
      case DASH:
      case SLASH: {
        const next = this.#peek(at + 1);
        if (next === NEEDS_MORE) return NEEDS_MORE;
        if (byte === DASH && next === DASH) return this.#enter({ kind: 'line-comment' }, at + 2);
        if (byte === SLASH && next === STAR) return this.#enter({ kind: 'block-comment', depth: 1 }, at + 2);
        break;
      }
      case BACKSLASH:
        // A command of psql's: psql refuses it and stops there, so the rest of its line does not matter.
        return this.#enter({ kind: 'line-comment' }, at + 1);
      case QUOTE:
        this.#begun = true;
        return this.#enter({ kind: 'string', escapes: !this.#standardStrings }, at + 1);
      case DOUBLE_QUOTE:
        this.#begun = true;
        return this.#enter({ kind: 'name' }, at + 1);
      case DOLLAR:
        return this.#readDollarTag(at);
      case OPEN:
        this.#depth++;
        break;
      case CLOSE:
        this.#depth = Math.max(0, this.#depth - 1);
        break;
      case SEMICOLON:
        if (this.#depth > 0 || this.#bodyDepth > 0) break;
        this.#endStatement();
        return at + 1;
      default:
    }
    this.#begun = true;
    return at + 1;
  }

  #readWord(at: number): number {
    let end = at + 1;
    while (isWordByte(this.#text[end])) end++;
    if (end === this.#text.length && !this.#final && end - at < WORD_BYTES_MAX) return NEEDS_MORE;
    if (!this.#begun) {
      const told = this.#readShortStatement(at) ?? this.#readEditedStatement(at);
      if (told !== undefined) return told;
    }
    this.#begun = true;
    const word = this.#text.toString('latin1', at, end).toLowerCase();
    if (word === 'e' && this.#text[end] === QUOTE) return this.#enter({ kind: 'string', escapes: true }, end + 1);
    if (this.#depth === 0 && this.#words.length < WORDS_MAX) this.#words.push(word);
    this.#followBody(word);
    return end;
  }

  /** A statement that is told by its text: where to go on, if it is one that is left out, or if more is needed. */
  #readShortStatement(at: number): number | undefined {
    const window = this.#text.toString('latin1', at, at + SHORT_STATEMENT_BYTES);
    if (!/^(begin|start|commit|end|rollback|abort|prepare|set)\b/i.test(window)) return undefined;
    const end = window.indexOf(';') + 1;
    if (end === 0) return window.length < SHORT_STATEMENT_BYTES && !this.#final ? NEEDS_MORE : undefined;
    const statement = window.slice(0, end);
    const setting = STANDARD_STRINGS.exec(statement)?.[1];
    if (setting !== undefined) this.#standardStrings = /^(on|true|yes|1|default)$/i.test(setting);
    if (!this.#dropTransactions) return undefined;
    if (REFUSED.test(statement)) {
      throw new PgarkError(
        'restore-failed',
        `the dump holds "${statement}", which would end the transaction that it is loaded in`,
        { hint: 'restore it into a new database with --to-db NAME, where no transaction is needed' },
      );
    }
    if (!DROPPED.test(statement)) return undefined;
    this.#emit(at);
    this.#from = at + end;
    return this.#from;
  }

  /** A statement that is changed: where to go on, if it is one, or if more is needed. */
  #readEditedStatement(at: number): number | undefined {
    if (this.#edits.length === 0) return undefined;
    const head = this.#text.toString('latin1', at, at + SHORT_STATEMENT_BYTES);
    const edits = this.#edits.filter(({ begins }) => begins.test(head));
    if (edits.length === 0) {
      // Its first words may not be here yet.
      return head.length < EDIT_WORDS_BYTES_MAX && !head.includes(';') && !this.#final ? NEEDS_MORE : undefined;
    }
    const window = this.#text.toString('latin1', at, at + EDITED_STATEMENT_BYTES_MAX);
    const statement = WHOLE_STATEMENT.exec(window)?.[0];
    if (statement === undefined) {
      return window.length < EDITED_STATEMENT_BYTES_MAX && !this.#final ? NEEDS_MORE : undefined;
    }
    const edited = edits.reduce((text, { edit }) => edit(text), statement);
    if (edited === statement) return undefined;
    this.#emit(at);
    this.#out.push(Buffer.from(edited, 'latin1'));
    this.#from = at + statement.length;
    return this.#from;
  }

  /** `BEGIN ATOMIC … END` of CREATE FUNCTION and CREATE PROCEDURE holds semicolons of its own. */
  #followBody(word: string): void {
    const [first, second, third, fourth] = this.#words;
    if (first !== 'create' || this.#depth > 0) return;
    const made = second === 'or' && third === 'replace' ? fourth : second;
    if (made !== 'function' && made !== 'procedure') return;
    if (word === 'begin' || (word === 'case' && this.#bodyDepth > 0)) this.#bodyDepth++;
    else if (word === 'end' && this.#bodyDepth > 0) this.#bodyDepth--;
  }

  #endStatement(): void {
    this.#rowsFollow =
      this.#words[0] === 'copy' &&
      this.#words.some((word, index) => word === 'from' && this.#words[index + 1] === 'stdin');
    this.#words = [];
    this.#begun = false;
  }

  #readString(at: number): number {
    const quote = this.#text.indexOf(QUOTE, at);
    if (quote < 0) return this.#text.length;
    // Of two quotes that stand for one, the second begins what reads like another string.
    return this.#enter(SQL, quote + 1);
  }

  #readEscapedString(at: number): number {
    const quote = this.#text.indexOf(QUOTE, at);
    const end = quote < 0 ? this.#text.length : quote;
    const backslash = this.#text.subarray(at, end).indexOf(BACKSLASH);
    if (backslash >= 0) return this.#peek(at + backslash + 1) === NEEDS_MORE ? NEEDS_MORE : at + backslash + 2;
    if (quote < 0) return end;
    const next = this.#peek(quote + 1);
    if (next === NEEDS_MORE) return NEEDS_MORE;
    if (next === QUOTE) return quote + 2;
    // A string goes on behind a line's end, with its escapes.
    let after = quote + 1;
    while (isSpace(this.#text[after])) after++;
    if (after === this.#text.length && !this.#final) return NEEDS_MORE;
    const goesOn = this.#text[after] === QUOTE && this.#text.subarray(quote, after).includes(NEWLINE);
    return goesOn ? after + 1 : this.#enter(SQL, quote + 1);
  }

  #readDollarTag(at: number): number {
    this.#begun = true;
    let end = at + 1;
    while (this.#text[end] !== DOLLAR && isWordByte(this.#text[end])) end++;
    const next = this.#peek(end);
    if (next === NEEDS_MORE) return NEEDS_MORE;
    const isTag = next === DOLLAR && (end === at + 1 || isWordStart(this.#text[at + 1] ?? 0));
    if (!isTag) return at + 1;
    return this.#enter({ kind: 'dollar', end: Buffer.from(this.#text.subarray(at, end + 1)) }, end + 1);
  }

  #readDollar(at: number, end: Buffer): number {
    const found = this.#text.indexOf(end, at);
    if (found >= 0) return this.#enter(SQL, found + end.length);
    return this.#allButLast(end.length - 1, at);
  }

  #readBlockComment(at: number, state: State & { kind: 'block-comment' }): number {
    for (let index = at; index < this.#text.length; index++) {
      const byte = this.#text[index];
      if (byte !== STAR && byte !== SLASH) continue;
      const next = this.#peek(index + 1);
      if (next === NEEDS_MORE) return index === at ? NEEDS_MORE : index;
      if (byte === SLASH && next === STAR) state.depth++;
      else if (byte === STAR && next === SLASH) state.depth--;
      else continue;
      if (state.depth === 0) this.#state = SQL;
      return index + 2;
    }
    return this.#text.length;
  }

  #readRows(at: number): number {
    const found = this.#text.indexOf(ROWS_END, at);
    if (found < 0) return this.#allButLast(ROWS_END.length - 1, at);
    let after = found + ROWS_END.length;
    let next = this.#peek(after);
    if (next === RETURN) next = this.#peek(++after);
    if (next === NEEDS_MORE || next === undefined) return found === at ? NEEDS_MORE : found;
    return next === NEWLINE ? this.#enter(SQL, after + 1) : found + 1;
  }

  /** Everything but the last bytes, which may be the beginning of what is looked for. */
  #allButLast(bytes: number, at: number): number {
    const to = this.#text.length - bytes;
    return to > at ? to : this.#final ? this.#text.length : NEEDS_MORE;
  }
}
