import type { Clock } from '../common/clock.ts';
import type { LogFields, Logger } from '../common/log.ts';

/** The largest part of a log that a watchdog takes: healthchecks.io keeps 100 kB of a ping's body. */
const BYTES_MAX = 100_000;
const LINE_CHARACTERS_MAX = 4_000;

/** Remembers the last lines that were logged through it, for those who are told of the run. */
export class LogExcerpt {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #lines: string[] = [];
  #bytes = 0;
  #runId: string | undefined;

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  /** Of the run that logged last; also of one that failed before it left a record. */
  get runId(): string | undefined {
    return this.#runId;
  }

  /** Everything that is logged goes on to `logger`; what is more than a detail is remembered too. */
  wrap(logger: Logger): Logger {
    const at =
      (level: 'info' | 'warning' | 'error' | 'success') =>
      (event: string, message: string, fields?: LogFields): void => {
        this.#add(level, message);
        logger[level](event, message, fields);
      };
    return {
      debug: (event, message, fields) => logger.debug(event, message, fields),
      info: at('info'),
      warning: at('warning'),
      error: at('error'),
      success: at('success'),
      child: (fields) => {
        if (typeof fields['runId'] === 'string') this.#runId = fields['runId'];
        return this.wrap(logger.child(fields));
      },
    };
  }

  /** Whole lines, the oldest first. */
  text(): string {
    return this.#lines.join('');
  }

  #add(level: string, message: string): void {
    const line = `${this.#clock.now().toISOString()} ${level.toUpperCase()} ${message.slice(0, LINE_CHARACTERS_MAX)}\n`;
    this.#lines.push(line);
    this.#bytes += Buffer.byteLength(line);
    while (this.#bytes > BYTES_MAX) this.#bytes -= Buffer.byteLength(this.#lines.shift() ?? '');
  }
}
