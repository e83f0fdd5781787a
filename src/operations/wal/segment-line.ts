import { receivedPiece } from '../../formats/wal/received-piece.ts';
import { SealedPiece } from '../../formats/wal/wal-piece.ts';
import type { Sealer } from '../../pipeline/encryption/sealer.ts';
import type { ReceivedWal } from '../../postgres/replication/segment-stream.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import type { WalIdentity } from '../../postgres/wal/segment-content.ts';
import type { Archives } from './archives.ts';
import type { SegmentDeltas } from './segment-deltas.ts';

export interface SegmentLineOptions {
  readonly archives: Archives;
  readonly identity: WalIdentity;
  readonly sealer: Sealer | undefined;
  /** Ends everything, with its reason. */
  readonly signal: AbortSignal;
  /** All before the position is archived. */
  readonly onArchived: (end: Lsn) => void;
}

/**
 * Full segments on their way into the archive, in their order: while one is stored, the next one is compressed and encrypted,
 * and the one behind it received. No segment shows in a storage before the one in front of it was confirmed there, so that
 * what is archived has no gap whatever happens, and never goes on as another server's WAL (adr/0043).
 */
export class SegmentLine {
  readonly #options: SegmentLineOptions;
  readonly #failed = new AbortController();
  #storing: Promise<void> = Promise.resolve();

  constructor(options: SegmentLineOptions) {
    this.#options = options;
  }

  /** Aborted when one could not be archived for good: none behind it will be. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  /**
   * Takes over a segment, with the deltas that are not needed once it is archived. Resolves when its turn to be stored has
   * come; its memory is free then. One call at a time. Throws what `done` throws.
   */
  async add(segment: ReceivedWal, deltas: SegmentDeltas): Promise<void> {
    const { content } = segment;
    const { identity, sealer } = this.#options;
    const { end } = content;
    const sealing = SealedPiece.of(receivedPiece(segment, identity), sealer);
    const sealed = await sealing.finally(() => content.release());
    await this.#storing;
    this.#storing = this.#store(sealed, end, deltas);
    this.#storing.catch((error: unknown) => this.#failed.abort(error));
  }

  /** Resolves when all that were added are archived. Throws what one of them could not be archived for. */
  async done(): Promise<void> {
    await this.#storing;
  }

  async #store(sealed: SealedPiece, end: Lsn, deltas: SegmentDeltas): Promise<void> {
    const { archives, signal, onArchived } = this.#options;
    await archives.putSegment(sealed, signal);
    sealed.release();
    onArchived(end);
    await deltas.remove(signal);
  }
}
