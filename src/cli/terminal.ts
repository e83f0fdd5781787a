/** The two streams that a command writes to: data on `out`, everything else on `err`. */
export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Whether stderr is a terminal. */
  readonly isTerminal: boolean;
  /** Whether it is one that can rewrite its line, and is to. */
  readonly live: boolean;
  /** Width of the live line. */
  readonly columns: number;
  /** How wide a table on stdout may be; a file or a pipe has no limit. */
  readonly tableColumns: number;
}

export function processTerminal(environment: Readonly<Record<string, string | undefined>>): Terminal {
  const plain = Boolean(environment.NO_COLOR || environment.CI) || environment.TERM === 'dumb';
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    isTerminal: process.stderr.isTTY,
    live: process.stderr.isTTY && !plain,
    columns: process.stderr.columns ?? 80,
    tableColumns: process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY,
  };
}
