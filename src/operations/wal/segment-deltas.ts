import { DELTA_BYTES_MAX, deltasOf, receivedPiece } from '../../formats/wal/received-piece.ts';
import { pieceKey, type WalPlace } from '../../formats/wal/store-piece.ts';
import type { ReceivedWal } from '../../postgres/replication/segment-stream.ts';
import type { WalIdentity } from '../../postgres/wal/segment-content.ts';
import { parseWalKey, walSegmentPrefix } from '../../repository/wal-keys.ts';
import type { ObjectKey } from '../../storage/object-store.ts';
import type { Archives } from './archives.ts';

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

  constructor(name: string, archives: Archives, identity: WalIdentity) {
    this.#name = name;
    this.#archives = archives;
    this.#identity = identity;
  }

  /** Looks for what an earlier receiver left of the segment. */
  async findLeft(signal: AbortSignal): Promise<void> {
    for (const { place } of this.#archives.places) {
      const left: LeftDelta[] = [];
      for await (const { key } of place.store.list(walSegmentPrefix(place.folder, this.#name), { signal })) {
        const wal = parseWalKey(key);
        if (wal?.kind === 'delta') left.push({ key, to: wal.to });
      }
      this.#left.set(place, left);
    }
  }

  /** Archives what has come since the delta before. */
  async put(tail: ReceivedWal, signal: AbortSignal): Promise<void> {
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

interface LeftDelta {
  readonly key: ObjectKey;
  readonly to: number;
}
