/** Facts of an event. Values are plain data; secrets are `Secret` objects, which print as `[redacted]`. */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Events with fixed names (`backup.committed`) and fields. `message` is the sentence a person reads; no fact is only in
 * the sentence.
 */
export interface Logger {
  debug(event: string, message: string, fields?: LogFields): void;
  info(event: string, message: string, fields?: LogFields): void;
  warning(event: string, message: string, fields?: LogFields): void;
  error(event: string, message: string, fields?: LogFields): void;
  success(event: string, message: string, fields?: LogFields): void;
  /** A logger whose every event carries these fields too (`runId`, `source`). */
  child(fields: LogFields): Logger;
}

const nothing = (): void => {};

/** Says nothing: for library users that hand in no logger, and for tests. */
export const silentLogger: Logger = {
  debug: nothing,
  info: nothing,
  warning: nothing,
  error: nothing,
  success: nothing,
  child: () => silentLogger,
};
