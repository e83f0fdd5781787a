import { assert } from '../../common/errors.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import { parseSegmentName, type Segment, segmentEnd, segmentStart } from '../../postgres/wal/segment.ts';
import { parseHistoryFileName } from '../../postgres/wal/timeline-history.ts';
import { parseWalKey, type WalFolder, type WalObject, walPrefix, walSegmentPrefix } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectInfo, ObjectKey, ObjectStore } from '../../storage/object-store.ts';

/** WAL of one timeline that is archived without a gap. */
export interface WalRange {
  readonly timeline: number;
  readonly from: Lsn;
  readonly to: Lsn;
  /**
   * Up to here by whole segments; what is behind it, if anything, by deltas. Where the deltas before them are missing, these begin
   * behind it, in the midst of their segment, and nobody can read them.
   */
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
  let listed: ListedSegment | undefined;
  const close = async (): Promise<void> => {
    if (listed === undefined) return;
    const settled = await lookAgain(store, folder, listed, segmentBytes, options);
    const { timeline } = settled;
    const ranges = found.get(timeline) ?? new RangeBuilder(timeline, segmentBytes);
    found.set(timeline, ranges);
    ranges.add(settled);
    for (const info of settled.whole) options.onSegment?.(settled.name, info);
  };
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
    if (listed?.name !== wal.name) {
      await close();
      listed = { ...segment, name: wal.name, whole: [], deltas: [] };
    }
    takeObject(listed, wal, info, segmentBytes);
  }
  await close();
  const ranges = [...found].map(([timeline, builder]) => [timeline, builder.end()] as const);
  return { segmentBytes, ranges: new Map(ranges.sort(([a], [b]) => a - b)), histories };
}

/** The objects of one segment. */
interface ListedSegment extends Segment {
  readonly name: string;
  /** Several: with and without encryption. */
  readonly whole: ObjectInfo[];
  readonly deltas: StoredDelta[];
}

interface StoredDelta extends Pick<Delta, 'from' | 'to'> {
  readonly info: ObjectInfo;
}

function takeObject({ whole, deltas }: ListedSegment, wal: WalObject, info: ObjectInfo, segmentBytes: number): void {
  if (wal.kind === 'segment') whole.push(info);
  else if (wal.kind === 'delta' && wal.to <= segmentBytes) deltas.push({ from: wal.from, to: wal.to, info });
}

/** A receiver that puts small deltas together may do that twice in a row. */
const LOOKS_MAX = 3;

/**
 * What there is of a segment, looked at again where a delta seems to be missing between others: a receiver that puts them
 * together, or has put the whole segment, removes them while they are listed, and what takes their place was put before that.
 */
async function lookAgain(
  store: ObjectStore,
  folder: WalFolder,
  listed: ListedSegment,
  segmentBytes: number,
  { signal }: CallOptions,
): Promise<ListedSegment> {
  let settled = listed;
  for (let look = 1; look < LOOKS_MAX && hasHole(settled); look += 1) {
    settled = { ...listed, whole: [], deltas: [] };
    const prefix = walSegmentPrefix(folder, listed.name);
    for await (const info of store.list(prefix, signal === undefined ? {} : { signal })) {
      const wal = parseWalKey(info.key);
      if (wal?.name === listed.name) takeObject(settled, wal, info, segmentBytes);
    }
  }
  return settled;
}

function hasHole({ whole, deltas }: ListedSegment): boolean {
  return whole.length === 0 && chainsOfDeltas(deltas).some(([first]) => first !== undefined && first.from > 0);
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
  return chainFrom(0, deltas);
}

/** All chains of a segment's deltas, ascending. What lies in front of one that does not begin at its start is missing. */
function chainsOfDeltas<T extends Pick<Delta, 'from' | 'to'>>(deltas: readonly T[]): readonly (readonly T[])[] {
  const chains: (readonly T[])[] = [];
  let rest = deltas.filter(({ from, to }) => from < to);
  while (rest.length > 0) {
    const chain = chainFrom(Math.min(...rest.map(({ from }) => from)), rest);
    const reached = chain.at(-1)?.to ?? 0;
    chains.push(chain);
    rest = rest.filter(({ from }) => from > reached);
  }
  return chains;
}

function chainFrom<T extends Pick<Delta, 'from' | 'to'>>(start: number, deltas: readonly T[]): readonly T[] {
  const chain: T[] = [];
  for (let reached = start; ; ) {
    let best: T | undefined;
    for (const delta of deltas) {
      if (delta.from <= reached && delta.to > (best?.to ?? reached)) best = delta;
    }
    if (best === undefined) return chain;
    chain.push(best);
    reached = best.to;
  }
}

/** Makes ranges of one timeline's segments, which come ascending. */
class RangeBuilder {
  readonly #timeline: number;
  readonly #segmentBytes: number;
  readonly #done: WalRange[] = [];
  #open: WalRange | undefined;

  constructor(timeline: number, segmentBytes: number) {
    this.#timeline = timeline;
    this.#segmentBytes = segmentBytes;
  }

  add({ number, whole: [whole], deltas }: ListedSegment): void {
    const start = segmentStart({ number }, this.#segmentBytes);
    if (whole !== undefined) {
      // Its own deltas are no longer needed; they may not have been removed yet.
      const to = segmentEnd({ number }, this.#segmentBytes);
      this.#extend({ from: start, to, wholeTo: to, segments: 1, info: whole });
      return;
    }
    for (const chain of chainsOfDeltas(deltas)) {
      let reached = chain[0]?.from ?? 0;
      for (const { to, info } of chain) {
        const from = start + BigInt(reached);
        this.#extend({ from, to: start + BigInt(to), wholeTo: start, segments: 0, info });
        reached = to;
      }
    }
  }

  end(): readonly WalRange[] {
    if (this.#open !== undefined) this.#done.push(this.#open);
    this.#open = undefined;
    return this.#done;
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
