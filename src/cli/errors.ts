import { inspect } from 'node:util';
import type { PgarkError } from '../common/errors.ts';

/**
 * The three parts of an error for people: what failed and why, what to do, and the run whose log tells more; with
 * `verbose` where it came from.
 */
export function describeError(error: PgarkError, options: { readonly verbose?: boolean } = {}): string {
  const run = error.runId === undefined ? '' : `  run  ${error.runId}   log: pgark logs ${error.runId}\n`;
  const text = `error  ${error.message}\n  hint ${error.hint}\n${run}`;
  return options.verbose === true || error.code === 'internal' ? `${text}${inspect(error)}\n` : text;
}

/** The same as data. */
export function reportError(error: PgarkError): Record<string, unknown> {
  const { code, message, hint, exitCode, runId } = error;
  return { code, message, hint, exit_code: exitCode, ...(runId === undefined ? {} : { run_id: runId }) };
}
