import { assert } from '../../common/errors.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import { parseSegmentName, segmentEnd, segmentStart } from '../../postgres/wal/segment.ts';
import { parseHistoryFileName } from '../../postgres/wal/timeline-history.ts';
import { parseWalKey, type WalFolder, walPrefix } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectInfo, ObjectKey, ObjectStore } from '../../storage/object-store.ts';

/** WAL of one timeline that is archived without a gap. */
export interface WalRange {
  readonly timeline: number;
  readonly from: Lsn;
  readonly to: Lsn;
  /** Up to here by whole segments; what is behind it, if anything, by deltas. */
  readonly wholeTo: Lsn;
  readonly segments: number;
  readonly storedBytes: number;
  /** When its first and its last object were stored, by the store's clock. */
  readonly firstStored: Date;
  readonly lastStored: Date;
}

/** What the keys of an archive tell. */
export interface WalIndex {
  readonly segmentBytes: number;
  /** By timeline, ascending; each timeline's ranges ascending, with gaps between them. */
  readonly ranges: ReadonlyMap<number, readonly WalRange[]>;
  /** Timelines whose history files are archived. */
  readonly histories: readonly number[];
}

/** The timelines of which anything is archived, if it is their history alone, the newest first. */
export function timelinesIn({ ranges, histories }: WalIndex): readonly number[] {
  return [...new Set([...ranges.keys(), ...histories])].sort((a, b) => b - a);
}

export interface IndexOptions extends CallOptions {
  /** Told of each object that is a whole segment. */
  readonly onSegment?: ((name: string, info: ObjectInfo) => void) | undefined;
}

/** Lists what is archived of a server, page by page: memory is the ranges'. */
export async function indexWal(
  store: ObjectStore,
  folder: WalFolder,
  segmentBytes: number,
  options: IndexOptions = {},
): Promise<WalIndex> {
  const histories: number[] = [];
  const found = new Map<number, RangeBuilder>();
  for await (const info of store.list(walPrefix(folder), options)) {
    const wal = parseWalKey(info.key);
    if (wal === undefined) continue;
    if (wal.kind === 'history') {
      const timeline = parseHistoryFileName(wal.name);
      if (timeline !== undefined) histories.push(timeline);
      continue;
    }
    const segment = parseSegmentName(wal.name, segmentBytes);
    if (segment === undefined || wal.kind === 'file') continue;
    const ranges = found.get(segment.timeline) ?? new RangeBuilder(segment.timeline, segmentBytes);
    found.set(segment.timeline, ranges);
    if (wal.kind === 'delta') {
      ranges.addDelta(segment.number, wal.from, wal.to, info);
      continue;
    }
    ranges.addSegment(segment.number, info);
    options.onSegment?.(wal.name, info);
  }
  const ranges = [...found].map(([timeline, builder]) => [timeline, builder.end()] as const);
  return { segmentBytes, ranges: new Map(ranges.sort(([a], [b]) => a - b)), histories };
}

/** A delta of a segment that is not whole. */
export interface Delta {
  readonly from: number;
  readonly to: number;
  readonly key: ObjectKey;
}

/**
 * The deltas that give a segment's beginning, each from where those before it end or earlier, as far as they reach. Where
 * several begin in time the one that reaches farthest is taken.
 */
export function chainOfDeltas<T extends Pick<Delta, 'from' | 'to'>>(deltas: readonly T[]): readonly T[] {
  const chain: T[] = [];
  for (let reached = 0; ; ) {
    let best: T | undefined;
    for (const delta of deltas) {
      if (delta.from <= reached && delta.to > (best?.to ?? reached)) best = delta;
    }
    if (best === undefined) return chain;
    chain.push(best);
    reached = best.to;
  }
}

interface StoredDelta extends Pick<Delta, 'from' | 'to'> {
  readonly info: ObjectInfo;
}

/** Makes ranges of one timeline's objects, which come in the order of their keys: a segment's deltas, then itself. */
class RangeBuilder {
  readonly #timeline: number;
  readonly #segmentBytes: number;
  readonly #done: WalRange[] = [];
  #open: WalRange | undefined;
  #deltasOf: bigint | undefined;
  #deltas: StoredDelta[] = [];

  constructor(timeline: number, segmentBytes: number) {
    this.#timeline = timeline;
    this.#segmentBytes = segmentBytes;
  }

  addDelta(number: bigint, from: number, to: number, info: ObjectInfo): void {
    if (this.#deltasOf !== number) this.#closeDeltas();
    this.#deltasOf = number;
    if (to <= this.#segmentBytes) this.#deltas.push({ from, to, info });
  }

  addSegment(number: bigint, info: ObjectInfo): void {
    // Its own deltas are no longer needed; they may not have been removed yet.
    if (this.#deltasOf === number) this.#deltasOf = undefined;
    else this.#closeDeltas();
    this.#deltas = [];
    const from = segmentStart({ number }, this.#segmentBytes);
    const to = segmentEnd({ number }, this.#segmentBytes);
    // The same segment twice: with and without encryption.
    if (this.#open?.wholeTo === to) return;
    this.#extend({ from, to, wholeTo: to, segments: 1, info });
  }

  end(): readonly WalRange[] {
    this.#closeDeltas();
    if (this.#open !== undefined) this.#done.push(this.#open);
    this.#open = undefined;
    return this.#done;
  }

  #closeDeltas(): void {
    if (this.#deltasOf === undefined) return;
    const start = segmentStart({ number: this.#deltasOf }, this.#segmentBytes);
    for (const { to, info } of chainOfDeltas(this.#deltas)) {
      const from = this.#open?.to ?? start;
      const within = from > start && from < start + BigInt(this.#segmentBytes) ? from : start;
      this.#extend({ from: within, to: start + BigInt(to), wholeTo: start, segments: 0, info });
    }
    this.#deltas = [];
    this.#deltasOf = undefined;
  }

  #extend(part: Pick<WalRange, 'from' | 'to' | 'wholeTo' | 'segments'> & { readonly info: ObjectInfo }): void {
    const { info, ...piece } = part;
    const { modified, bytes } = info;
    const open = this.#open;
    if (open === undefined || open.to !== piece.from) {
      if (open !== undefined) this.#done.push(open);
      this.#open = {
        timeline: this.#timeline,
        ...piece,
        storedBytes: bytes,
        firstStored: modified,
        lastStored: modified,
      };
      return;
    }
    assert(piece.to >= open.to, 'keys ascend');
    this.#open = {
      ...open,
      to: piece.to,
      wholeTo: piece.segments === 1 ? piece.to : open.wholeTo,
      segments: open.segments + piece.segments,
      storedBytes: open.storedBytes + bytes,
      lastStored: modified > open.lastStored ? modified : open.lastStored,
    };
  }
}
