import { isPgarkError, PgarkError } from '../../common/errors.ts';
import { formatLsn, type Lsn } from './lsn.ts';
import { LONG_HEADER_BYTES, readLongPageHeader } from './page-header.ts';
import type { Landmark } from './record.ts';
import { RecordWalker } from './record-walker.ts';

/** The records that a recovery replays: those that begin at the one position or later, and before the other. */
export interface ReplayedSpan {
  readonly from: Lsn;
  readonly to: Lsn;
}

/**
 * Refuses a record by which a recovery would make a tablespace at the path that the old server had: where that still runs, its
 * files are there, and the recovery would write into them. Error: `tablespace-path`.
 */
export function refuseTablespace(landmark: Landmark, replayed: ReplayedSpan): void {
  if (landmark.kind === 'tablespace' && landmark.path !== '') refuseAt(landmark.lsn, landmark.path, replayed);
}

function refuseAt(lsn: Lsn, path: string | undefined, { from, to }: ReplayedSpan): void {
  if (lsn < from || lsn >= to) return;
  const [at, where] = [formatLsn(lsn), path ?? 'a path'];
  throw new PgarkError(
    'tablespace-path',
    `at ${at} the write-ahead log makes a tablespace at ${where}, and a recovery would use that very folder on this machine, as the old server does`,
    {
      hint: `begin with a base backup made behind it, or stop before it (--lsn ${at}, where the backup ends before that); where nothing else uses ${where} on this machine: --to-dir with --allow-tablespace-paths`,
    },
  );
}

/** Looks through one segment, by itself, on its way to a server that recovers. */
export class TablespaceWatch {
  readonly #replayed: ReplayedSpan;
  #head = new Uint8Array(0);
  #start: Lsn = 0n;
  #walker: RecordWalker | undefined;
  #hasAll = false;
  #seenBytes = 0;

  constructor(replayed: ReplayedSpan) {
    this.#replayed = replayed;
  }

  /**
   * Takes the bytes that come next, or some of those that came before and more. `at`: where they begin in the segment. Errors:
   * `tablespace-path`; `corrupt` where it cannot be told what would be replayed.
   */
  push(piece: Uint8Array, at = this.#seenBytes): void {
    const bytes = piece.subarray(Math.max(0, this.#seenBytes - at));
    this.#seenBytes += bytes.length;
    if (this.#hasAll) return;
    const walker = this.#walker;
    if (walker === undefined) this.#begin(bytes);
    else this.#walk(walker, () => walker.push(bytes));
  }

  /** Nothing more comes of the segment. Errors: those of `push`. */
  finish(): void {
    const walker = this.#walker;
    if (walker === undefined || this.#hasAll) return;
    this.#walk(walker, () => walker.finish());
    const lsn = walker.openTablespace;
    if (lsn !== undefined) refuseAt(lsn, undefined, this.#replayed);
  }

  /** A segment says itself where it is, and how long. */
  #begin(bytes: Uint8Array): void {
    const head = Buffer.concat([this.#head, bytes]);
    this.#head = head;
    if (head.length < LONG_HEADER_BYTES) return;
    const { address, segmentBytes } = readLongPageHeader(
      new DataView(head.buffer, head.byteOffset, head.byteLength),
      0,
    );
    const walker = new RecordWalker(address, segmentBytes);
    this.#start = address;
    this.#walker = walker;
    this.#head = new Uint8Array(0);
    this.#hasAll = address + BigInt(segmentBytes) <= this.#replayed.from;
    if (!this.#hasAll) this.#walk(walker, () => walker.push(head));
  }

  #walk(walker: RecordWalker, step: () => readonly Landmark[]): void {
    try {
      for (const landmark of step()) refuseTablespace(landmark, this.#replayed);
    } catch (error) {
      for (const landmark of walker.taken()) refuseTablespace(landmark, this.#replayed);
      // What comes behind all that is replayed may be no log at all.
      if (!isPgarkError(error, 'corrupt') || (walker.last?.end ?? this.#start) < this.#replayed.to) throw error;
      this.#hasAll = true;
    }
    this.#hasAll ||= walker.last !== undefined && walker.last.end >= this.#replayed.to;
  }
}
