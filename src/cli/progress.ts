import { formatBytes, formatDuration } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';
import type { Progress } from '../operations/context.ts';
import { logLine } from './errors.ts';
import type { LogForm } from './log-form.ts';
import type { Terminal } from './terminal.ts';

const LIVE_EVERY_MS = 200;
const PLAIN_EVERY_MS = 30_000;
const BAR_COLUMNS = 20;
/** Of phase and subject, what is left where the line is too narrow for them. */
const NAME_COLUMNS_MIN = 10;

/**
 * Shows what a long operation does: on a terminal one live line with bar, bytes, rate and remaining time; elsewhere a
 * plain line every 30 seconds, or an event of the log where that is JSON. `end` clears the live line before other text is printed.
 */
export class ProgressLine {
  readonly #terminal: Terminal;
  readonly #clock: Clock;
  readonly #enabled: boolean;
  readonly #log: Pick<LogForm, 'format'>;
  #phase = '';
  #phaseStartedMs = 0;
  #shownMs: number;
  #onScreen = false;

  constructor(terminal: Terminal, clock: Clock, enabled: boolean, log: Pick<LogForm, 'format'>) {
    this.#terminal = terminal;
    this.#clock = clock;
    this.#enabled = enabled;
    this.#log = log;
    this.#shownMs = clock.monotonicMs();
  }

  update(progress: Progress): void {
    if (!this.#enabled) return;
    const now = this.#clock.monotonicMs();
    const phase = `${progress.phase} ${progress.subject}`;
    const fresh = phase !== this.#phase;
    if (fresh) {
      this.#phase = phase;
      this.#phaseStartedMs = now;
    }
    const every = this.#terminal.live ? LIVE_EVERY_MS : PLAIN_EVERY_MS;
    if (now - this.#shownMs < every && !(fresh && this.#terminal.live)) return;
    this.#shownMs = now;
    const elapsedMs = now - this.#phaseStartedMs;
    if (this.#terminal.live) {
      this.#terminal.err(`\r\u001b[K${describeProgress(progress, elapsedMs, this.#terminal.columns - 1)}`);
      this.#onScreen = true;
      return;
    }
    const text = describeProgress(progress, elapsedMs, Number.POSITIVE_INFINITY);
    this.#terminal.err(
      this.#log.format === 'json' ? logLine('info', 'progress', text, fieldsOf(progress)) : `${text}\n`,
    );
  }

  end(): void {
    if (this.#onScreen) this.#terminal.err('\r\u001b[K');
    this.#onScreen = false;
  }
}

function fieldsOf({ phase, subject, bytes, bytesTotal, bytesStored }: Progress): Readonly<Record<string, unknown>> {
  return { phase, subject, bytes, bytes_total: bytesTotal, bytes_stored: bytesStored };
}

/**
 * `dumping shop [######··············] 1.2 GiB of about 4.0 GiB, 80.1 MiB/s, 36.0 s left`. What says least goes first where
 * there is no room for all: the bar, what is stored, the end of the name; rate and time are what people look for.
 */
function describeProgress(progress: Progress, elapsedMs: number, columns: number): string {
  const { bytes, bytesTotal, bytesStored } = progress;
  const name = `${progress.phase} ${progress.subject}`;
  if (bytes === 0) return truncate(`${name} …`, columns);
  const rate = elapsedMs > 0 ? (bytes / elapsedMs) * 1_000 : 0;
  let amount = formatBytes(bytes);
  let bar = '';
  let left = '';
  // An estimate that has been passed says nothing any more.
  if (bytesTotal !== undefined && bytesTotal >= bytes) {
    amount = `${formatBytes(bytes)} of about ${formatBytes(bytesTotal)}`;
    const filled = Math.round((bytes / bytesTotal) * BAR_COLUMNS);
    bar = ` [${'#'.repeat(filled)}${'·'.repeat(BAR_COLUMNS - filled)}]`;
    if (rate > 0 && elapsedMs > 2_000) left = `, ${formatDuration(((bytesTotal - bytes) / rate) * 1_000)} left`;
  }
  const stored = bytesStored !== undefined && bytesStored > 0 ? `, ${formatBytes(bytesStored)} stored` : '';
  const end = `${rate > 0 ? `, ${formatBytes(Math.round(rate))}/s` : ''}${left}`;
  const shorter = ` ${amount}${end}`;
  const lines = [`${name}${bar} ${amount}${stored}${end}`, `${name} ${amount}${stored}${end}`, `${name}${shorter}`];
  const fitting = lines.find((line) => [...line].length <= columns);
  if (fitting !== undefined) return fitting;
  const nameColumns = columns - shorter.length;
  return nameColumns >= NAME_COLUMNS_MIN
    ? `${truncate(name, nameColumns)}${shorter}`
    : truncate(`${name}${shorter}`, columns);
}

function truncate(text: string, columns: number): string {
  const characters = [...text];
  return characters.length <= columns ? text : `${characters.slice(0, Math.max(0, columns - 1)).join('')}…`;
}
