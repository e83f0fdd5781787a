import { type ErrorCode, errorTable } from './error-table.ts';

export interface PgarkErrorOptions {
  /** What to do about it; the table's remedy where none is given. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** Facts for logs and JSON output. Never secrets. */
  readonly details?: Readonly<Record<string, string | number | boolean>>;
}

/**
 * The one error type that leaves an operation: `message` says what failed and why, `hint` what to do, `code` is a row of
 * the error table. Layers wrap at most once, with `cause`.
 */
export class PgarkError extends Error {
  override readonly name = 'PgarkError';
  readonly code: ErrorCode;
  readonly hint: string;
  readonly details: Readonly<Record<string, string | number | boolean>>;
  /** The run that failed with it, set by the run's envelope where the run left a record and a log. */
  runId: string | undefined;

  constructor(code: ErrorCode, message: string, options: PgarkErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? errorTable[code].remedy;
    this.details = options.details ?? {};
  }

  get exitCode(): number {
    return errorTable[this.code].exit;
  }
}

export function isPgarkError(error: unknown, code?: ErrorCode): error is PgarkError {
  return error instanceof PgarkError && (code === undefined || error.code === code);
}

/** The message of anything that was thrown, without a stack. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}

/** Node's or the operating system's code (`ENOSPC`, `ECONNREFUSED`), if the error carries one. */
export function systemCodeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Turns whatever was thrown into a PgarkError: itself, `interrupted` for an abort, else a new one of the given code. */
export function asPgarkError(error: unknown, code: ErrorCode = 'internal'): PgarkError {
  if (error instanceof PgarkError) return error;
  return new PgarkError(code, messageOf(error), { cause: error });
}

/** States that must hold. A violation is a defect of pgark, not of its input. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new PgarkError('internal', `invariant violated: ${what}`);
}
