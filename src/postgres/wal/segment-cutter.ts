import { assert, PgarkError } from '../../common/errors.ts';
import { formatLsn, type Lsn } from './lsn.ts';
import { segmentAt, segmentStart } from './segment.ts';
import { SegmentContent, type WalIdentity } from './segment-content.ts';

/**
 * Cuts a stream of WAL of one timeline, which begins at the start of a segment, at the borders of segments. A segment that
 * is full is handed over with its memory; the one that is being filled is `current`.
 */
export class SegmentCutter {
  readonly #timeline: number;
  readonly #identity: WalIdentity;
  readonly #onFull: (content: SegmentContent) => void;
  #current: SegmentContent;
  /** Behind the last byte that has come. */
  #next: Lsn;

  constructor(timeline: number, start: Lsn, identity: WalIdentity, onFull: (content: SegmentContent) => void) {
    this.#timeline = timeline;
    this.#identity = identity;
    this.#onFull = onFull;
    this.#next = start;
    const segment = segmentAt(timeline, start, identity.segmentBytes);
    assert(segmentStart(segment, identity.segmentBytes) === start, 'WAL is received from the start of a segment');
    this.#current = new SegmentContent(segment, identity);
  }

  /** Right behind a border it is empty. */
  get current(): SegmentContent {
    return this.#current;
  }

  /** The position behind the last byte that was checked: the head of the page that follows may have come in part. */
  get end(): Lsn {
    return this.#current.end;
  }

  /**
   * Copies bytes that begin at the position. Errors: `postgres-failed` if that is not where the stream is; `corrupt` for a
   * page that is damaged, before which everything ends.
   */
  append(lsn: Lsn, bytes: Uint8Array): void {
    if (lsn !== this.#next) {
      throw new PgarkError(
        'postgres-failed',
        `the server sent WAL of ${formatLsn(lsn)} where that of ${formatLsn(this.#next)} follows`,
      );
    }
    this.#next += BigInt(bytes.length);
    for (let rest = bytes; rest.length > 0; ) {
      rest = rest.subarray(this.#current.append(rest));
      if (!this.#current.isFull) continue;
      const full = this.#current;
      this.#current = new SegmentContent(
        { timeline: this.#timeline, number: full.segment.number + 1n },
        this.#identity,
      );
      this.#onFull(full);
    }
  }
}
