import type { ByteStream } from '../../common/bytes.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { formatLsn, type Lsn } from '../../postgres/wal/lsn.ts';
import { segmentEnd, segmentStart } from '../../postgres/wal/segment.ts';
import { historyFileName, type TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import { type WalFolder, walKey } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectStore } from '../../storage/object-store.ts';
import { indexWal, timelinesIn, type WalIndex } from './archive-index.ts';
import { findOnPath, type FoundOnPath, readFound } from './find-on-path.ts';
import { readArchivedHistory } from './history-object.ts';
import type { PieceFacts } from './piece-facts.ts';
import { readFacts, type StoredPiece } from './read-piece.ts';
import { holdsAll, isOnWay, type Stretch, stretchesTowards, type TimelinePart } from './recovery-path.ts';

/** What is needed to read an archive. */
export interface ArchiveAccess {
  readonly store: ObjectStore;
  readonly keys: DecryptionKeys;
  readonly signal: AbortSignal;
}

/** The archive of one server as a recovery towards one timeline sees it. */
export class ArchivePath {
  readonly folder: WalFolder;
  readonly segmentBytes: number;
  readonly history: TimelineHistory;
  /** What is archived, ascending, without a gap in each. */
  readonly stretches: readonly Stretch[];
  readonly #index: WalIndex;
  readonly #access: ArchiveAccess;

  private constructor(folder: WalFolder, index: WalIndex, history: TimelineHistory, access: ArchiveAccess) {
    this.folder = folder;
    this.segmentBytes = index.segmentBytes;
    this.history = history;
    this.stretches = stretchesTowards(index, history);
    this.#index = index;
    this.#access = access;
  }

  /**
   * `timeline`: default is the newest of which anything is archived. Errors: `wal-unknown` for one that is not, `corrupt`
   * where its history is damaged.
   */
  static async open(
    folder: WalFolder,
    segmentBytes: number,
    timeline: number | undefined,
    access: ArchiveAccess,
  ): Promise<ArchivePath> {
    const { store, signal } = access;
    const index = await indexWal(store, folder, segmentBytes, { signal });
    const known = timelinesIn(index);
    const towards = timeline ?? known[0] ?? 0;
    if (!known.includes(towards)) {
      throw new PgarkError(
        'wal-unknown',
        `${store.location} holds no WAL of timeline ${towards || 1} of ${folder.source}`,
        {
          hint: known.length === 0 ? 'make a base backup first' : `it has: ${known.toReversed().join(', ')}`,
        },
      );
    }
    const history = await readTimelineHistory(store, folder, towards, { signal });
    return new ArchivePath(folder, index, history, access);
  }

  /** All other timelines of which anything is archived, ascending. */
  get otherTimelines(): readonly number[] {
    return [...this.#index.ranges.keys()].filter((timeline) => timeline !== this.history.timeline);
  }

  /** The same archive, seen on the way to another timeline. Error: `corrupt` where that one's history is damaged. */
  async towards(timeline: number): Promise<ArchivePath> {
    const { store, signal } = this.#access;
    const history = await readTimelineHistory(store, this.folder, timeline, { signal });
    return new ArchivePath(this.folder, this.#index, history, this.#access);
  }

  /** The newest timeline that a part of the log leads to. Undefined where no history that can be read says so. */
  async newestThrough(part: TimelinePart): Promise<number | undefined> {
    for (const timeline of timelinesIn(this.#index)) {
      try {
        const { history } = await this.towards(timeline);
        if (isOnWay(history, part)) return timeline;
      } catch (error) {
        if (!isPgarkError(error, 'corrupt')) throw error;
      }
    }
    return undefined;
  }

  /** The stretch that holds all from one position to the other. */
  stretchOf(from: Lsn, to: Lsn): Stretch | undefined {
    return this.stretches.find((stretch) => holdsAll(stretch, { from, to }, this.segmentBytes));
  }

  /** What the last piece of a segment’s WAL says of itself. Undefined where nothing of it is archived. */
  async factsOf(number: bigint): Promise<PieceFacts | undefined> {
    return whileMoving(async () => {
      const found = await this.#find(number);
      const piece: StoredPiece | undefined = found?.whole ?? found?.chain.at(-1);
      return piece && readFacts(this.#access.store, piece, this.#access);
    });
  }

  /** All that is archived from the start of a segment up to the position. Errors: `corrupt`, `wal-gap`, those of reading. */
  async *read(firstSegment: bigint, to: Lsn): ByteStream {
    for (let number = firstSegment; segmentStart({ number }, this.segmentBytes) < to; number += 1n) {
      const start = segmentStart({ number }, this.segmentBytes);
      const end = segmentEnd({ number }, this.segmentBytes);
      const wanted = Number((to < end ? to : end) - start);
      const reached = yield* this.#segment(number, wanted);
      if (reached >= wanted) continue;
      const [from, upTo] = [start + BigInt(reached), start + BigInt(wanted)].map(formatLsn);
      throw new PgarkError(
        'wal-gap',
        `the write-ahead log from ${from} to ${upTo} is not in ${this.#access.store.location} any more`,
      );
    }
  }

  /** A segment’s first bytes, as many as are wanted and there. Returns how many that are. */
  async *#segment(number: bigint, wanted: number): AsyncGenerator<Uint8Array, number> {
    let reached = 0;
    for (let attempt = 1; ; attempt += 1) {
      let at = 0;
      try {
        const found = await this.#find(number);
        if (found === undefined) return reached;
        const end = Math.min(wanted, found.bytes);
        // What is not wanted is read too: only at its end is an object known to be what was stored.
        for await (const block of readFound(this.#access.store, found, this.folder, this.#access)) {
          const fresh = block.subarray(Math.min(block.length, Math.max(0, reached - at)), Math.max(0, end - at));
          at += block.length;
          reached += fresh.length;
          if (fresh.length > 0) yield fresh;
        }
        return reached;
      } catch (error) {
        if (attempt === ATTEMPTS_MAX || !isPgarkError(error, 'object-not-found')) throw error;
      }
    }
  }

  #find(number: bigint): Promise<FoundOnPath | undefined> {
    const { folder, segmentBytes } = this;
    const { store, signal } = this.#access;
    return findOnPath({ store, folder, segmentBytes }, this.history, number, { signal });
  }
}

/** Timeline 1 has no file. Error: `corrupt` where it is damaged or missing. */
async function readTimelineHistory(
  store: ObjectStore,
  folder: WalFolder,
  timeline: number,
  call: CallOptions,
): Promise<TimelineHistory> {
  if (timeline === 1) return { timeline, ancestors: [] };
  const history = await readArchivedHistory(store, folder, timeline, call);
  if (history !== undefined) return history;
  const key = walKey(folder, { kind: 'history', name: historyFileName(timeline) }, '');
  throw new PgarkError(
    'corrupt',
    `${key} is missing from ${store.location}: nothing says where timeline ${timeline} began`,
  );
}

/** A receiver goes on meanwhile: it puts parts of a segment together, and what was listed may be gone when it is read. */
const ATTEMPTS_MAX = 3;

async function whileMoving<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (attempt === ATTEMPTS_MAX || !isPgarkError(error, 'object-not-found')) throw error;
    }
  }
}
