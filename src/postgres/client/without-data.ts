import type { LineFilter } from '../../common/child-process.ts';

/** A message of the server by psql with VERBOSITY verbose, whatever language its severity and its words are in. */
const CODED = /^(psql:\S+:\d+: )([^:]+): {2}([0-9A-Z]{5}): (.*)$/;
/** Which of the server's functions said it; libpq prints the label, in English. */
const LOCATION = /^LOCATION: {2}(\w+), /;
/** What else comes by VERBOSITY verbose alone. */
const NAMED = /^(?:SCHEMA|TABLE|COLUMN|DATATYPE|CONSTRAINT) NAME: {2}/;
/** SQLSTATEs of successful completion: what only tells something. */
const TELLS = '00';

/** Begins each message of psql, pg_dump, pg_restore and their like. What follows without it belongs to the message before. */
const PREFIX = /^(?:psql|pg_\w+):/;
/** Further messages of the server, as libpq prints them by itself. */
const LABEL = /^(?:WARNING|NOTICE|INFO|LOG|DEBUG|HINT): /;
const STATEMENT = /^(.*?\b(?:Command|[Qq]uery) was: +)(.*)$/;
/** What a statement does, and to what: no literal begins without a quote, a parenthesis or a dollar sign. */
const STATEMENT_HEAD = /^(?:[A-Z]+ )*(?:(?:"[^"]*"|[^\s"'($;])+(?=[\s(;]|$))?/;
const EXCERPT = /^(?:LINE \d+|QUERY|CONTEXT|(?:psql:\S+ )?STATEMENT): /;
const DETAIL = /^DETAIL: +/;
/** Of an index's key, the columns, which the values follow; of all else, what comes before anything that may be a value. */
const DETAIL_HEAD = /^(?:Key \([^'"]*?\)=|[^("'»«„“=:]*)/;
/** Where it happened, of which the server tells by whom it was called, line by line, or what the row was. */
const PLACE =
  /^CONTEXT: +(?:COPY [^"':]+?, line \d+(?:, column [^"':]+)?|PL\/pgSQL function [^"']+ line \d+ at [A-Za-z ]+|SQL function "[^"]*" (?:during \w+|statement \d+))/;
/**
 * Values in the words of the server itself: `invalid input syntax for type integer: "…"`. Names of things stand elsewhere,
 * but for those of locales and values of settings.
 */
const VALUES = [
  /(?<=\S: )(?<!(?:error|warning|detail|hint|locale name|parameter "[^"]*"): )["'»«„“].*$/s,
  /(?<=\b(?:value|time zone) )".*$/s,
  /".*" (?=is out of range|is not a valid (?:binary|hexadecimal) digit)/s,
  /(?<=at or near )"[^"]*['$].*$/s,
  // A syntax error quotes the token: a literal, in whatever language. Nothing is named so, but for the `$` of `$libdir` and `$user`.
  /(?:["»«„“「『]|>>)\s?(?:(?:[BENX]|U&)?'|\$\w*\$).*$/is,
];
/** Functions of users may say as much as they like, and each quote in it is a place to begin at. */
const WORDS_MAX = 2_000;

/** SQLSTATEs of what is wrong with a value, but for those of settings and of encodings, which quote names. */
const OF_VALUES = /^22(?!023|021|P05)/;
/** From the first quote on, of whatever language: the value may have more of them, and go on in the next line. */
const QUOTED = /(?:["'»«„“”「『]|>>|<<).*$/s;

/**
 * The words of the server, without what they quote of rows and literals. By the SQLSTATE that holds in any language; without
 * it in English, and where a value comes last.
 */
export function withoutValues(words: string, state?: string): string {
  const said = words.length > WORDS_MAX ? `${words.slice(0, WORDS_MAX)}…` : words;
  const left = VALUES.reduce((text, value) => text.replace(value, (found) => (found.endsWith(' ') ? '… ' : '…')), said);
  return state !== undefined && OF_VALUES.test(state) ? left.replace(QUOTED, '…') : left;
}

/** What a server said with a message, in no language. */
export interface ServerError {
  readonly sqlState: string;
  /** The function of the server's source that said it. */
  readonly routine: string | undefined;
}

/** SQLSTATEs of success and of warnings. Notices have others, too. */
const OF_NO_ERROR = /^0[01]/;
const NO_ERROR = /^(?:WARNING|NOTICE|INFO|LOG|DEBUG)$/;
/** What a server says where it ends a session: resources, an operator, the system, damage. psql then says no more than that it is lost. */
const ENDS_SESSION = /^(?:53|57|58|XX)/;
/** An error of psql itself, such as that the server is gone. */
const OF_PSQL = /^psql:(?:\S+:\d+:)? (?:error|fatal): /;

/** Remembers what psql with VERBOSITY verbose says besides the words, of the message that came last, where that may be an error. */
export class LastServerError {
  #last: ServerError | undefined;

  get last(): ServerError | undefined {
    return this.#last;
  }

  said(severity: string, sqlState: string): void {
    const isError = !OF_NO_ERROR.test(sqlState) && !NO_ERROR.test(severity);
    this.#last = isError ? { sqlState, routine: undefined } : undefined;
  }

  saidBy(routine: string): void {
    if (this.#last !== undefined) this.#last = { ...this.#last, routine };
  }

  /** That what ended psql is not what the server has said before, but for what it ended the session with. */
  saidByPsql(): void {
    if (this.#last !== undefined && !ENDS_SESSION.test(this.#last.sqlState)) this.#last = undefined;
  }
}

/**
 * Keeps passwords and rows out of what a client program says on stderr: statements that failed, values in the details that
 * the server gives, excerpts. What was cut may go on for lines that look like anything, up to the next message. Their
 * labels are in English, since libpq prints them; only the server's own sentences and severities are in its language. What psql
 * says with VERBOSITY verbose reads as without, and is told to `error`.
 */
export function withoutData(error?: LastServerError): LineFilter {
  let isWithin = false;
  let hasCut = false;
  const cut = (kept?: string): string | undefined => {
    isWithin = true;
    hasCut = true;
    return kept;
  };
  const coded = ([, place = '', severity = '', sqlState = '', said = '']: RegExpExecArray): string => {
    isWithin = false;
    error?.said(severity, sqlState);
    const words = withoutValues(said, sqlState);
    if (words !== said) cut();
    return `${place}${sqlState.startsWith(TELLS) ? 'NOTICE' : severity}:  ${words}`;
  };
  return (line) => {
    const code = CODED.exec(line);
    if (code !== null) return coded(code);
    if (OF_PSQL.test(line)) error?.saidByPsql();
    const routine = LOCATION.exec(line)?.[1];
    if (routine !== undefined) error?.saidBy(routine);
    if (routine !== undefined || NAMED.test(line)) return undefined;
    const place = PLACE.exec(line)?.[0];
    if (place !== undefined) return cut(place);
    if (PREFIX.test(line)) isWithin = false;
    else if (isWithin) return undefined;
    const [, said, sql] = STATEMENT.exec(line) ?? [];
    if (said !== undefined && sql !== undefined) return cut(`${said}${STATEMENT_HEAD.exec(sql)?.[0].trim() ?? ''} …`);
    if (EXCERPT.test(line)) {
      cut();
      // One line; a detail or a hint may follow.
      isWithin = !line.startsWith('LINE ');
      return undefined;
    }
    const detail = DETAIL.exec(line)?.[0];
    if (detail !== undefined) {
      const words = line.slice(detail.length);
      const head = DETAIL_HEAD.exec(words)?.[0] ?? '';
      return head === words ? line : cut(`${detail}${head}…`);
    }
    if (hasCut && !PREFIX.test(line) && !LABEL.test(line)) return undefined;
    const words = withoutValues(line);
    return words === line ? line : cut(words);
  };
}
