import { inspect } from 'node:util';
import type { PgarkError } from '../common/errors.ts';
import { createLogger, type LogFormat } from '../common/log-writer.ts';

interface ErrorView {
  readonly verbose?: boolean;
  /** What of several things it is the error of, such as a database; undefined for the one that the command ends with. */
  readonly of?: string;
}

/**
 * The three parts of an error for people: what failed and why, what to do, and the run whose log tells more; with
 * `verbose` where it came from.
 */
export function describeError(error: PgarkError, { verbose, of }: ErrorView = {}): string {
  const run = error.runId === undefined ? '' : `  run  ${error.runId}   log: pgark logs ${error.runId}\n`;
  const text = `${of === undefined ? '' : `${of}: `}error  ${error.message}\n  hint ${error.hint}\n${run}`;
  return showsOrigin(error, verbose) ? `${text}${inspect(error)}\n` : text;
}

/** The same as stderr gets it: as text, or as one line of JSON for a collector. */
export function formatError(error: PgarkError, format: LogFormat, view: ErrorView = {}): string {
  if (format === 'text') return describeError(error, view);
  const { message, ...fields } = reportError(error);
  const { verbose, of } = view;
  return logLine(
    'error',
    of === undefined ? 'command.failed' : 'command.part_failed',
    of === undefined ? message : `${of}: ${message}`,
    { ...fields, ...(showsOrigin(error, verbose) ? { stack: inspect(error) } : {}) },
  );
}

/** One line of the log in JSON. */
export function logLine(
  level: 'info' | 'error',
  event: string,
  message: string,
  fields: Readonly<Record<string, unknown>> = {},
): string {
  let line = '';
  const logger = createLogger({ format: 'json', level, write: (text) => void (line = text) });
  logger[level](event, message, fields);
  return line;
}

/** An error as data. */
export function reportError(error: PgarkError): Record<string, unknown> & { readonly message: string } {
  const { code, message, hint, exitCode, runId } = error;
  return { code, message, hint, exit_code: exitCode, ...(runId === undefined ? {} : { run_id: runId }) };
}

function showsOrigin({ code }: PgarkError, verbose: boolean | undefined): boolean {
  return verbose === true || code === 'internal';
}
