import type { PgarkError } from '../../common/errors.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';

/** What is known of a slot from one connection to the next: those that fail at once, again and again, must not hide that it grows. */
export class SlotMemory {
  /** What it held back when it was looked at last. */
  heldBackBytes = Infinity;
  isAlarmed = false;
  /** Why it could not be dropped when that was tried last. */
  kept: PgarkError | undefined;
  #archived: Lsn | undefined;

  /** A connection begins. Where the one before has archived anything, this one is given the time to do so too. */
  begin(archived: Lsn | undefined): void {
    if (archived !== this.#archived) this.heldBackBytes = Infinity;
    this.#archived = archived;
  }
}
