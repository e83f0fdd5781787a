import type { SqlToken } from './sql-statements.ts';

/** A statement, read from its beginning. What does not fit is left where it is. */
export class Words {
  readonly #tokens: readonly SqlToken[];
  at = 0;

  constructor(tokens: readonly SqlToken[]) {
    this.#tokens = tokens;
  }

  get atEnd(): boolean {
    return this.at === this.#tokens.length;
  }

  /** Keywords, all of them or none. */
  take(...words: readonly string[]): boolean {
    const fits = words.every((word, index) => {
      const token = this.#tokens[this.at + index];
      return token?.kind === 'word' && token.value === word;
    });
    if (fits) this.at += words.length;
    return fits;
  }

  symbol(value: string): boolean {
    return this.#next(({ kind, value: found }) => kind === 'symbol' && found === value) !== undefined;
  }

  name(): string | undefined {
    return this.#next(({ kind }) => kind === 'name' || kind === 'word');
  }

  string(): string | undefined {
    return this.#next(({ kind }) => kind === 'string');
  }

  number(): number | undefined {
    const isNegative = this.symbol('-');
    const digits = this.#next(({ kind, value }) => kind === 'word' && /^\d+$/.test(value));
    return digits === undefined ? undefined : Number(digits) * (isNegative ? -1 : 1);
  }

  /** All that follows, as it stands in the text. */
  rest(text: string): string {
    const rest = this.#tokens.slice(this.at);
    this.at = this.#tokens.length;
    return text.slice(rest[0]?.start ?? 0, rest.at(-1)?.end ?? 0);
  }

  #next(fits: (token: SqlToken) => boolean): string | undefined {
    const token = this.#tokens[this.at];
    if (token === undefined || !fits(token)) return undefined;
    this.at++;
    return token.value;
  }
}
