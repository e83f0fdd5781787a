import { createRequire } from 'node:module';
import type * as Pino from 'pino';
import type { LogFields, Logger } from './log.ts';

export type LogLevel = 'debug' | 'info' | 'success' | 'warning' | 'error';
export type LogFormat = 'json' | 'text';

/** Severity order; `success` ranks beside `info`. */
const LEVELS: Readonly<Record<LogLevel, number>> = { debug: 20, info: 30, success: 31, warning: 40, error: 50 };
const SERVICE = 'pg_backup';

export interface LogWriterOptions {
  readonly format: LogFormat;
  /** Events below this are dropped. */
  readonly level: LogLevel;
  /** Receives whole lines, each with its newline. */
  readonly write: (line: string) => void;
}

/**
 * A logger that writes events as JSON lines (`time`, `level`, `event`, `message`, `service` and the fields), or for people
 * as `2026-11-20T02:00:00.000Z INFO message`.
 */
export function createLogger(options: LogWriterOptions): Logger {
  return options.format === 'json' ? jsonLogger(options) : textLogger(options);
}

function jsonLogger(options: LogWriterOptions): Logger {
  const pino = loadPino();
  const root = pino<LogLevel>(
    {
      customLevels: { ...LEVELS },
      useOnlyCustomLevels: true as const,
      level: options.level,
      base: { service: SERVICE },
      messageKey: 'message',
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label.toUpperCase() }) },
    },
    { write: options.write },
  );
  const wrap = (child: typeof root): Logger => ({
    debug: (event, message, fields) => child.debug({ event, ...fields }, message),
    info: (event, message, fields) => child.info({ event, ...fields }, message),
    success: (event, message, fields) => child.success({ event, ...fields }, message),
    warning: (event, message, fields) => child.warning({ event, ...fields }, message),
    error: (event, message, fields) => child.error({ event, ...fields }, message),
    child: (fields) => wrap(child.child({ ...fields })),
  });
  return wrap(root);
}

/** Loaded with the first logger that writes JSON: short commands have none. */
function loadPino(): typeof Pino.pino {
  const require = createRequire(import.meta.url);
  return (require('pino') as typeof Pino).pino;
}

function textLogger(options: LogWriterOptions): Logger {
  const at =
    (level: LogLevel) =>
    (_event: string, message: string, _fields?: LogFields): void => {
      if (LEVELS[level] < LEVELS[options.level]) return;
      options.write(`${new Date().toISOString()} ${level.toUpperCase()} ${message}\n`);
    };
  const logger: Logger = {
    debug: at('debug'),
    info: at('info'),
    success: at('success'),
    warning: at('warning'),
    error: at('error'),
    child: () => logger,
  };
  return logger;
}
