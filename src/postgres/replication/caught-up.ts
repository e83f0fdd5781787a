import type { Lsn } from '../wal/lsn.ts';
import type { ServerTime } from '../wal/server-time.ts';

/** By its clock the server had WAL up to the position, and no more. */
export interface ServerPosition {
  readonly end: Lsn;
  readonly time: ServerTime;
}

/**
 * Finds out from a server's answers when it had no more WAL than it has sent. One answer does not tell: it says what was sent,
 * while more may wait on the server. But whoever has more sends it before it answers what was asked after its last answer had
 * come. So where the second answer says the same, with no WAL between, the server had no more at the first one.
 */
export class CaughtUp {
  /** Questions that are not answered yet. */
  #open = 0;
  /** The last answer, unless WAL came behind it. */
  #last: ServerPosition | undefined;
  /** What was the last answer when the only open question was asked. */
  #before: ServerPosition | undefined;

  asks(): void {
    this.#before = this.#open === 0 ? this.#last : undefined;
    this.#open += 1;
  }

  /** WAL has come. */
  wal(): void {
    this.#last = undefined;
    this.#before = undefined;
  }

  /** The server answers that it has sent all up to the position. Returns what that proves, if anything. */
  answered(sent: ServerPosition): ServerPosition | undefined {
    const before = this.#before;
    this.#open = Math.max(0, this.#open - 1);
    this.#before = undefined;
    this.#last = sent;
    return before?.end === sent.end ? before : undefined;
  }
}
