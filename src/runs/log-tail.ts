import { KIB } from '../common/bytes.ts';
import type { Logger } from '../common/log.ts';
import { createLogger } from '../common/log-writer.ts';

/** What is kept of a run's log: its last lines, as many as fit. */
const TAIL_BYTES_MAX = 64 * KIB;
/** A longer line keeps its time, level, event and the beginning of its message. */
const LINE_BYTES_MAX = 8 * KIB;
const MESSAGE_CHARACTERS_MAX = 2_000;

/** Stands first where earlier lines were left out, and says in `lines` how many. */
export const LOG_CUT_EVENT = 'log.cut';

/**
 * The end of a run's log: events as JSON lines, secrets redacted as in every log, those for debugging left out. Bounded,
 * whatever is logged.
 */
export class LogTail {
  /** What is logged here goes into the tail only. */
  readonly logger: Logger;
  readonly #lines: string[] = [];
  #bytes = 0;
  #linesCut = 0;
  #changes = 0;

  /** `before`: lines that it begins with. */
  constructor(before?: LogTail) {
    if (before !== undefined) {
      this.#lines = [...before.#lines];
      this.#bytes = before.#bytes;
      this.#linesCut = before.#linesCut;
    }
    this.logger = createLogger({ format: 'json', level: 'info', write: (line) => this.#add(line) });
  }

  /** A logger that says everything to both. */
  tee(logger: Logger): Logger {
    return both(logger, this.logger);
  }

  /** Another number after each line. */
  get changes(): number {
    return this.#changes;
  }

  /** The lines, each with its newline. */
  encode(): Uint8Array {
    const head =
      this.#linesCut === 0
        ? []
        : [`{"event":"${LOG_CUT_EVENT}","message":"earlier lines were left out","lines":${this.#linesCut}}\n`];
    return new TextEncoder().encode([...head, ...this.#lines].join(''));
  }

  #add(line: string): void {
    const kept = Buffer.byteLength(line) > LINE_BYTES_MAX ? shortened(line) : line;
    this.#changes += 1;
    this.#lines.push(kept);
    this.#bytes += Buffer.byteLength(kept);
    while (this.#bytes > TAIL_BYTES_MAX) {
      this.#bytes -= Buffer.byteLength(this.#lines.shift() ?? '');
      this.#linesCut += 1;
    }
  }
}

function shortened(line: string): string {
  const { level, time, event, message } = JSON.parse(line) as Readonly<Record<string, unknown>>;
  const text = `${String(message).slice(0, MESSAGE_CHARACTERS_MAX)}…`;
  return `${JSON.stringify({ level, time, event, message: text.toWellFormed(), shortened: true })}\n`;
}

function both(first: Logger, second: Logger): Logger {
  return {
    debug: (...said) => (first.debug(...said), second.debug(...said)),
    info: (...said) => (first.info(...said), second.info(...said)),
    success: (...said) => (first.success(...said), second.success(...said)),
    warning: (...said) => (first.warning(...said), second.warning(...said)),
    error: (...said) => (first.error(...said), second.error(...said)),
    child: (fields) => both(first.child(fields), second.child(fields)),
  };
}
