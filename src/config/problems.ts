import { type ErrorCode } from '../common/error-table.ts';
import { PgarkError } from '../common/errors.ts';

type ConfigErrorCode = Extract<
  ErrorCode,
  | 'config-missing'
  | 'config-conflict'
  | 'config-unreadable'
  | 'config-invalid'
  | 'key-invalid'
  | 'cron-invalid'
  | 'storage-config-invalid'
>;

/** When problems of several kinds come together, the first of these decides code and exit status. */
const RANK: readonly ConfigErrorCode[] = [
  'config-missing',
  'config-conflict',
  'config-unreadable',
  'config-invalid',
  'key-invalid',
  'cron-invalid',
  'storage-config-invalid',
];

/** What a command may need of the environment; what it does not need may be missing or wrong. */
export type Need = 'database' | 'storage';

export interface Problem {
  readonly code: ConfigErrorCode;
  /** `pgark.yaml:12:5` or the variable's name. */
  readonly where?: string;
  /** What is wrong, in words that never hold a secret. */
  readonly message: string;
  readonly hint?: string;
  /** Counts only for commands that need this part. */
  readonly need?: Need;
}

/** Collects everything that is wrong with a configuration, so that the user learns of all of it at once. */
export class Problems {
  readonly #problems: Problem[] = [];

  add(problem: Problem): void {
    const same = (other: Problem): boolean => other.where === problem.where && other.message === problem.message;
    if (!this.#problems.some(same)) this.#problems.push(problem);
  }

  /** Whether anything is wrong with the part that `need` names. */
  has(need: Need): boolean {
    return this.#problems.some((problem) => problem.need === need);
  }

  /** Throws what `error` tells, if there is anything. */
  throwIfAny(needs: readonly Need[]): void {
    const error = this.error(needs);
    if (error !== undefined) throw error;
  }

  /** One error that says everything, if there is anything that concerns a command with these needs. */
  error(needs: readonly Need[]): PgarkError | undefined {
    const relevant = inOrder(this.#problems.filter(({ need }) => need === undefined || needs.includes(need)));
    const code = RANK.find((candidate) => relevant.some((problem) => problem.code === candidate));
    if (code === undefined) return undefined;
    const lines = relevant.map(
      (problem) => `${problem.where === undefined ? '' : `${problem.where}: `}${problem.message}`,
    );
    const hints = new Set(relevant.flatMap(({ hint }) => (hint === undefined ? [] : [hint])));
    const heading = relevant.every((problem) => problem.code === 'config-missing')
      ? `${lines.length} required settings are missing:`
      : `the configuration has ${lines.length} problems:`;
    return new PgarkError(
      code,
      lines.length === 1 ? (lines[0] ?? '') : [heading, ...lines.map((line) => `  ${line}`)].join('\n'),
      hints.size > 0 ? { hint: [...hints].join('; ') } : {},
    );
  }
}

/** As a reader of the file meets them; what has no place in it comes after that, in the order in which it was found. */
function inOrder(problems: readonly Problem[]): readonly Problem[] {
  const placed = problems.map((problem) => {
    const [, line = Number.POSITIVE_INFINITY, column = 0] = /:(\d+):(\d+)(?::|$)/.exec(problem.where ?? '') ?? [];
    return { problem, line: Number(line), column: Number(column) };
  });
  const compare = (one: number, other: number): number => (one === other ? 0 : one < other ? -1 : 1);
  return placed
    .toSorted((one, other) => compare(one.line, other.line) || compare(one.column, other.column))
    .map(({ problem }) => problem);
}
