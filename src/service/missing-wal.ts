import type { WalReceiverState } from '../operations/wal/receive-request.ts';
import type { RecoveryWindow } from '../operations/wal/recovery-window.ts';
import { parseLsn } from '../postgres/wal/lsn.ts';

/**
 * The archive is looked through so often while WAL may be missing: until a base backup follows, nothing later can be recovered. One
 * that is wanted and does not come is looked for less and less often.
 */
const SOON_MS = 10_000;
export const LATER_MS = 5 * 60_000;

/** Whether WAL is missing for good, and what follows has no base backup yet. */
export class MissingWal {
  /** Some may be missing since the archive was looked through. */
  #isCut = false;
  /** It is, and nobody here makes the base backup that has to follow. */
  #waitsForBase = false;
  /** How often in a row a base backup was wanted, since WAL was found to be missing. */
  #timesWanted = 0;
  /** Since then the archive was looked through once, and nothing was missing. */
  #seemsWhole = false;

  /** A receiver has met a gap, or the slot that kept WAL has gone. */
  met(): void {
    this.#isCut = true;
    this.#waitsForBase = false;
    this.#timesWanted = 0;
    this.#seemsWhole = false;
  }

  /** How soon the archive is to be looked through again; undefined while nothing may be missing. */
  get lookAgainMs(): number | undefined {
    if (!this.#isCut) return undefined;
    return this.#waitsForBase ? LATER_MS : soonAndLater(this.#timesWanted);
  }

  /**
   * By what was found in the archive, once WAL is archived again, behind the gap: whether what follows, if any was missing, has
   * its base backup. `wantBase` is told that it needs one, and says whether one may follow soon.
   */
  isOver(windows: readonly RecoveryWindow[], state: WalReceiverState | undefined, wantBase: () => boolean): boolean {
    if (state?.phase !== 'streaming' || state.failingStores.size > 0) return false;
    const [newest, before] = windows.filter(({ isCopied }) => !isCopied).toReversed();
    // Nothing of what follows is in the archive yet.
    if (newest === undefined || parseLsn(newest.to) < (state.archived ?? 0n)) return false;
    if (newest.bases.length === 0 && before !== undefined) {
      this.#timesWanted += 1;
      this.#waitsForBase = !wantBase();
      return false;
    }
    this.#waitsForBase = false;
    this.#timesWanted = 0;
    // A receiver that goes on where it had stopped may not have heard yet that the server has no such WAL any more.
    const isSure = !this.#isCut || this.#seemsWhole;
    this.#seemsWhole = true;
    if (!isSure) return false;
    // Nothing was missing, or what followed has its base backup.
    this.#isCut = false;
    return newest.bases.length > 0;
  }
}

/** The pause after what was so as often in a row: no longer than all before it, and no longer than five minutes. */
export function soonAndLater(times: number): number {
  return Math.min(SOON_MS * 2 ** Math.max(0, times - 1), LATER_MS);
}
