import { PgarkError } from '../../common/errors.ts';

/** A piece of a statement: a word or number as it stands, a quoted name or a string as it is meant, or one character. */
export interface SqlToken {
  readonly kind: 'word' | 'name' | 'string' | 'symbol';
  readonly value: string;
  readonly start: number;
  readonly end: number;
}

const BLANK = /\s+|--[^\n]*/y;
/** What psql would do by itself, such as `\restrict`: a line of its own, and nothing that a server is to see. */
const META_COMMAND = /\\[^\n]*/y;
const NAME = /"((?:[^"]|"")*)"/y;
const STRING = /'((?:[^']|'')*)'/y;
const ESCAPED_STRING = /[eE]'((?:[^'\\]|''|\\[^])*)'/y;
const DOLLAR_STRING = /(\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$)([^]*?)\1/y;
const WORD = /[\w\x80-\uffff][\w$\x80-\uffff]*/y;
const SYMBOL = /[^'"$]/y;

/**
 * The statements of an SQL text as pg_dumpall writes them, without comments and psql's own commands: no nested comments, and
 * strings by standard_conforming_strings. Error: `restore-failed` for a text that ends within a statement or a quote.
 */
export function sqlStatements(text: string): readonly (readonly SqlToken[])[] {
  const statements: SqlToken[][] = [];
  let tokens: SqlToken[] = [];
  for (let at = 0; at < text.length; ) {
    const skipped = matchAt(BLANK, text, at) ?? (tokens.length === 0 ? matchAt(META_COMMAND, text, at) : undefined);
    if (skipped !== undefined) {
      at += skipped[0].length;
      continue;
    }
    const token = tokenAt(text, at);
    if (token === undefined) throw endsWithin('a quoted text');
    at = token.end;
    if (token.kind === 'symbol' && token.value === ';') {
      if (tokens.length > 0) statements.push(tokens);
      tokens = [];
    } else tokens.push(token);
  }
  if (tokens.length > 0) throw endsWithin('a statement');
  return statements;
}

function tokenAt(text: string, start: number): SqlToken | undefined {
  const token = (kind: SqlToken['kind'], [whole]: RegExpExecArray, value: string): SqlToken => ({
    kind,
    value,
    start,
    end: start + whole.length,
  });
  const escaped = matchAt(ESCAPED_STRING, text, start);
  if (escaped !== undefined) {
    return token('string', escaped, (escaped[1] ?? '').replaceAll("''", "'").replaceAll(/\\([^])/g, '$1'));
  }
  const string = matchAt(STRING, text, start);
  if (string !== undefined) return token('string', string, (string[1] ?? '').replaceAll("''", "'"));
  const name = matchAt(NAME, text, start);
  if (name !== undefined) return token('name', name, (name[1] ?? '').replaceAll('""', '"'));
  const dollar = matchAt(DOLLAR_STRING, text, start);
  if (dollar !== undefined) return token('string', dollar, dollar[2] ?? '');
  const word = matchAt(WORD, text, start);
  if (word !== undefined) return token('word', word, word[0]);
  const symbol = matchAt(SYMBOL, text, start);
  return symbol && token('symbol', symbol, symbol[0]);
}

function matchAt(pattern: RegExp, text: string, at: number): RegExpExecArray | undefined {
  pattern.lastIndex = at;
  return pattern.exec(text) ?? undefined;
}

function endsWithin(what: string): PgarkError {
  return new PgarkError('restore-failed', `the SQL text of the globals ends within ${what}`, {
    hint: 'take the globals of another day; pgark list shows them',
  });
}
