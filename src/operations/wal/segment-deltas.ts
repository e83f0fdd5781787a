import { DELTA_BYTES_MAX, deltasOf, receivedPiece } from '../../formats/wal/received-piece.ts';
import { compareEncryptedOtherwise, pieceKey, type WalPlace } from '../../formats/wal/store-piece.ts';
import { findSegmentObjects, type SegmentObjects, type SegmentPart } from '../../formats/wal/read-segment.ts';
import type { ReceivedWal } from '../../postgres/replication/segment-stream.ts';
import type { WalIdentity } from '../../postgres/wal/segment-content.ts';
import type { ObjectKey } from '../../storage/object-store.ts';
import type { Archives } from './archives.ts';
import { isAsArchived } from './archived-beginning.ts';

/** As many deltas of one size become one of the next. */
const DELTAS_PER_LEVEL = 32;

interface Delta {
  readonly from: number;
  readonly to: number;
  /** How often it was put together of smaller ones. */
  readonly level: number;
  readonly since: bigint;
}

/**
 * The deltas of the segment that is being filled. Small ones are put together from time to time, so that who reads them has
 * few to read; what an earlier receiver left goes when it is covered.
 */
export class SegmentDeltas {
  readonly #archives: Archives;
  readonly #identity: WalIdentity;
  readonly #name: string;
  #own: Delta[] = [];
  /** Those of an earlier receiver, by their place. */
  readonly #left = new Map<WalPlace, readonly LeftDelta[]>();
  /** What is archived of the segment, until that is known to be what comes. */
  #archived: readonly ArchivedBeginning[] = [];

  constructor(name: string, archives: Archives, identity: WalIdentity) {
    this.#name = name;
    this.#archives = archives;
    this.#identity = identity;
  }

  /** Looks for what an earlier receiver has archived of the segment. Whether there is anything. */
  async findLeft(signal: AbortSignal): Promise<boolean> {
    const archived: ArchivedBeginning[] = [];
    for (const { place } of this.#archives.places) {
      const { store, folder } = place;
      const objects = await findSegmentObjects(store, folder, this.#name, { signal });
      this.#left.set(place, objects.deltas);
      if (objects.whole !== undefined || objects.deltas.length > 0) archived.push({ place, objects });
    }
    this.#archived = archived;
    return archived.length > 0;
  }

  /**
   * Compares what has come of the segment, from its start on, with what was archived of it before. Error: `wal-conflict` where it
   * is not the same: then the server is not the one that it was, or not as it was.
   */
  async compare(received: ReceivedWal, signal: AbortSignal): Promise<void> {
    if (this.#archived.length === 0) return;
    const rest: ArchivedBeginning[] = [];
    for (const { place, objects } of this.#archived) {
      if (objects.whole !== undefined && received.content.isFull) {
        const piece = receivedPiece(received, this.#identity);
        await compareEncryptedOtherwise(place, piece, this.#archives.logger, { signal });
        continue;
      }
      const isAll = await isAsArchived(received, { place, name: this.#name, objects }, this.#archives.logger, signal);
      if (!isAll) rest.push({ place, objects });
    }
    this.#archived = rest;
  }

  /** Archives what has come since the delta before. */
  async put(tail: ReceivedWal, signal: AbortSignal): Promise<void> {
    await this.compare(tail, signal);
    for (const part of deltasOf(tail)) {
      const { from, to, since } = part;
      await this.#archives.putDelta(receivedPiece(part, this.#identity), signal);
      this.#own.push({ from, to, level: 0, since });
    }
    await this.#putTogether(tail, signal);
    await this.#removeCovered(tail.to, signal);
  }

  /** The whole segment is archived: none of them is needed any more. */
  async remove(signal: AbortSignal): Promise<void> {
    const own = this.#own;
    this.#own = [];
    if (own.length === 0 && [...this.#left.values()].every((left) => left.length === 0)) return;
    await this.#archives.removeDeltas(
      (place) => [...own.map((delta) => this.#keyOf(place, delta)), ...this.#leftIn(place).map(({ key }) => key)],
      signal,
    );
  }

  async #putTogether(tail: ReceivedWal, signal: AbortSignal): Promise<void> {
    for (;;) {
      const last = this.#own.at(-1);
      const same = this.#own.slice(this.#own.findLastIndex(({ level }) => level !== last?.level) + 1);
      const [first] = same;
      if (first === undefined || last === undefined || same.length < DELTAS_PER_LEVEL) return;
      if (last.to - first.from > DELTA_BYTES_MAX) return;
      const whole = { from: first.from, to: last.to, level: first.level + 1, since: first.since };
      await this.#archives.putDelta(receivedPiece({ ...tail, ...whole }, this.#identity), signal);
      this.#own = [...this.#own.slice(0, -same.length), whole];
      await this.#archives.removeDeltas((place) => same.map((delta) => this.#keyOf(place, delta)), signal);
    }
  }

  async #removeCovered(to: number, signal: AbortSignal): Promise<void> {
    const covered = new Map<WalPlace, ObjectKey[]>();
    for (const [place, left] of this.#left) {
      // One of the very same range has been replaced, and is ours now.
      const own = new Set(this.#own.map((delta) => this.#keyOf(place, delta)));
      covered.set(
        place,
        left.filter((delta) => delta.to <= to && !own.has(delta.key)).map(({ key }) => key),
      );
      this.#left.set(
        place,
        left.filter((delta) => delta.to > to),
      );
    }
    if ([...covered.values()].every((keys) => keys.length === 0)) return;
    await this.#archives.removeDeltas((place) => covered.get(place) ?? [], signal);
  }

  #leftIn(place: WalPlace): readonly LeftDelta[] {
    return this.#left.get(place) ?? [];
  }

  #keyOf(place: WalPlace, { from, to }: Delta): ObjectKey {
    return pieceKey(place, { kind: 'delta', name: this.#name, from, to });
  }
}

type LeftDelta = Pick<SegmentPart, 'key' | 'to'>;

interface ArchivedBeginning {
  readonly place: WalPlace;
  readonly objects: SegmentObjects;
}
