import type { LogFormat } from '../common/log-writer.ts';
import type { LogConfig } from '../config/model.ts';
import type { Terminal } from './terminal.ts';

type Setting = LogConfig['format'];

interface Surroundings {
  readonly terminal: Pick<Terminal, 'isTerminal'>;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Whether what is said on stderr is text or lines of JSON: as the environment says, until the configuration is read. */
export class LogForm {
  readonly #auto: LogFormat;
  #setting: Setting;
  #isSettled = false;

  /** `operands` are the names of the command that is called, as far as they are known. */
  constructor(operands: readonly string[], { terminal, environment }: Surroundings) {
    this.#auto = isUnattended(operands) && !terminal.isTerminal ? 'json' : 'text';
    const said = environment['LOG_FORMAT']?.trim().toLowerCase();
    this.#setting = said === 'json' || said === 'text' ? said : 'auto';
  }

  get format(): LogFormat {
    return this.#setting === 'auto' ? this.#auto : this.#setting;
  }

  /** Whether it is what the configuration says. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  settle(setting: Setting): void {
    this.#setting = setting;
    this.#isSettled = true;
  }
}

/** Commands that schedulers and supervisors start, whose stderr is a log; that of all others is read by whoever called them. */
function isUnattended([name, verb]: readonly string[]): boolean {
  return name === 'daemon' || name === 'once' || (name === 'wal' && verb === 'receive');
}
