import type { Clock } from '../../common/clock.ts';
import type { Lsn } from '../wal/lsn.ts';
import type { StandbyStatus } from './wal-messages.ts';

/** However often the server asks: a server that shuts down does so again at once, as long as it is not satisfied. */
const REPORT_GAP_MS = 100;

export interface StatusReportsOptions {
  readonly clock: Clock;
  /** The server hears from us this often at the least, or it takes us for dead. */
  readonly everyMs: number;
  /**
   * How long what was received may be without lasting before that is not said any more. 0: at once, as is right but for a
   * synchronous standby, whose server waits to hear it.
   */
  readonly withholdAfterMs: number;
  readonly send: (status: StandbyStatus) => void;
}

/**
 * Tells the server how far we are. What lasts is said when it is news, and while it is all that was received. Otherwise
 * nothing is said of it: a server that shuts down waits until all that it has sent is said to last, or, where nothing is said
 * of that, until it was received. So a store that refuses never holds up the end of the server.
 */
export class StatusReports {
  readonly #options: StatusReportsOptions;
  readonly #ended = new AbortController();
  #received: Lsn;
  #lasts: Lsn = 0n;
  #saidLasts: Lsn = 0n;
  #behindSinceMs: number | undefined;
  #reportedMs = -Infinity;
  /** One is due when the gap is over. */
  #due = false;

  constructor(start: Lsn, options: StatusReportsOptions) {
    this.#received = start;
    this.#options = options;
    void this.#everySoOften();
  }

  received(lsn: Lsn): void {
    this.#received = lsn;
    this.#behindSinceMs ??= this.#options.clock.monotonicMs();
  }

  lasts(lsn: Lsn): void {
    this.#lasts = lsn;
    this.#behindSinceMs = lsn >= this.#received ? undefined : this.#options.clock.monotonicMs();
    this.soon();
  }

  /** Now, or as soon as may be. */
  soon(): void {
    if (this.#due || this.#ended.signal.aborted) return;
    const waitMs = this.#reportedMs + REPORT_GAP_MS - this.#options.clock.monotonicMs();
    if (waitMs <= 0) this.#report();
    else void this.#reportIn(waitMs);
  }

  end(): void {
    this.#ended.abort(new Error('the stream has ended'));
  }

  async #everySoOften(): Promise<void> {
    const { clock, everyMs } = this.#options;
    for (;;) {
      await clock.sleep(everyMs, this.#ended.signal).catch(() => undefined);
      if (this.#ended.signal.aborted) return;
      this.#report(true);
    }
  }

  async #reportIn(ms: number): Promise<void> {
    this.#due = true;
    await this.#options.clock.sleep(ms, this.#ended.signal).catch(() => undefined);
    this.#due = false;
    if (!this.#ended.signal.aborted) this.#report();
  }

  #report(asks = false): void {
    const { clock, send, withholdAfterMs } = this.#options;
    const nowMs = clock.monotonicMs();
    this.#reportedMs = nowMs;
    const behindMs = this.#behindSinceMs === undefined ? undefined : nowMs - this.#behindSinceMs;
    const isWithheld = behindMs !== undefined && behindMs >= withholdAfterMs;
    const status = { written: this.#received, at: clock.now(), asks };
    if (this.#lasts > this.#saidLasts || !isWithheld) {
      send({ ...status, flushed: this.#lasts });
      this.#saidLasts = this.#lasts;
    }
    if (isWithheld) send({ ...status, flushed: 0n });
  }
}
