import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { BLOCK_BYTES, type ByteStream } from '../../common/bytes.ts';
import { asPgarkError, isPgarkError, messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';
import { chainOfDeltas } from '../../formats/wal/archive-index.ts';
import { archivedSegmentBytes } from '../../formats/wal/archived-segment-bytes.ts';
import { findOnPath, readFound } from '../../formats/wal/find-on-path.ts';
import { readArchivedHistory, readHistoryBytes } from '../../formats/wal/history-object.ts';
import { laterTimelines } from '../../formats/wal/later-timelines.ts';
import { findSegmentObjects, readParts, readWhole, type SegmentPart } from '../../formats/wal/read-segment.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { watched } from '../../formats/wal/watched.ts';
import { formatLsn, type Lsn } from '../../postgres/wal/lsn.ts';
import { parseSegmentName, type Segment, segmentAt, segmentEnd, segmentStart } from '../../postgres/wal/segment.ts';
import type { ReplayedSpan } from '../../postgres/wal/tablespace-watch.ts';
import { endOf, parseHistoryFileName, type TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import {
  parseWalFileName,
  parseWalKey,
  type WalFolder,
  walPrefix,
  walSegmentPrefix,
} from '../../repository/wal-keys.ts';
import { readWalRecord } from '../../repository/wal-record.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { OperationContext } from '../context.ts';
import type { WalStore } from './archives.ts';

export interface FetchWalRequest extends WalFolder {
  /** Asked in their order, until one has the whole file; else the one that has most of it gives that. */
  readonly stores: readonly WalStore[];
  readonly keys: DecryptionKeys;
  /** What a restore_command is asked for (`%f`). */
  readonly name: string;
  /** Where it is wanted (`%p`), absolute. */
  readonly target: string;
  /** What the recovery replays, among which no record may make a tablespace at a path. Default: any may. */
  readonly replayed?: ReplayedSpan | undefined;
  /** All that the recovery needs lies before it: what is missing behind it is no gap. Default: all that is archived is needed. */
  readonly upTo?: Lsn | undefined;
}

/**
 * Fetches one file of WAL, for restore_command: a segment, the beginning of the newest one, filled up with zeros, a history.
 * `absent`: it is proven that every storage has the archive of this server, and not this file, nor later WAL of its timeline or
 * of one that goes on from it. Errors: `tablespace-path` where it is to be refused; `wal-gap` where later WAL is there, be it of
 * the same segment, and what is there ends before `upTo`, so that a recovery must not end here as if it had come to the end;
 * `wal-unknown` for a storage without any
 * WAL of this server; `usage`, `corrupt`, `wrong-key`, `key-missing`, `store-…`.
 */
export async function fetchWal(request: FetchWalRequest, context: OperationContext): Promise<'found' | 'absent'> {
  const { name } = request;
  if (parseWalFileName(name) === undefined) {
    throw new PgarkError('usage', `${name} is no file of WAL`, { hint: "restore_command = 'pgark wal fetch %f %p'" });
  }
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await fetchOnce(request, context);
    } catch (error) {
      const mayHaveMoved = isPgarkError(error, 'object-not-found') || isPgarkError(error, 'wal-gap');
      if (attempt === ATTEMPTS_MAX || !mayHaveMoved) throw error;
    }
  }
}

async function fetchOnce(request: FetchWalRequest, context: OperationContext): Promise<'found' | 'absent'> {
  const failures: PgarkError[] = [];
  const fetches = request.stores.map(({ store }) => new Fetch(store, request, context.signal));
  for (const fetch of fetches) {
    try {
      if (await fetch.whole()) return 'found';
    } catch (error) {
      context.signal.throwIfAborted();
      failures.push(asPgarkError(error));
    }
  }
  const [failure] = failures;
  if (failure !== undefined) throw failure;
  // Of what is not whole in any, each storage may have another part: a recovery ends where the part ends that it is given.
  let most: Beginning | undefined;
  for (const fetch of fetches) {
    const beginning = await fetch.beginning();
    if (beginning !== undefined && beginning.bytes > (most?.bytes ?? 0)) most = beginning;
  }
  const { upTo } = request;
  const isEnough = most !== undefined && upTo !== undefined && most.end >= upTo;
  if (!isEnough) for (const fetch of fetches) await fetch.proveNoMore(most?.bytes ?? 0);
  await most?.write();
  return most === undefined ? 'absent' : 'found';
}

/**
 * A receiver goes on meanwhile: it puts parts of a segment together, and at last into the whole. What was listed may be gone
 * when it is read, and what was not there yet when it was looked for may be followed by more.
 */
const ATTEMPTS_MAX = 3;

/** What a storage has of a segment that is not whole. */
interface Beginning {
  readonly bytes: number;
  /** Where that ends in the log. */
  readonly end: Lsn;
  write(): Promise<void>;
}

class Fetch {
  readonly #store: ObjectStore;
  readonly #request: FetchWalRequest;
  readonly #signal: AbortSignal;
  /** Of the segment, as `whole` has found them. */
  #deltas: readonly SegmentPart[] = [];
  /** Where the last delta of the segment ends, be it of an older timeline. */
  #furthest = 0;
  /** What is left to prove of what `beginning` has found. */
  #proveEndBefore = async (): Promise<void> => undefined;

  constructor(store: ObjectStore, request: FetchWalRequest, signal: AbortSignal) {
    this.#store = store;
    this.#request = request;
    this.#signal = signal;
  }

  /** Whether the whole file is there, and was written. */
  async whole(): Promise<boolean> {
    const { name } = this.#request;
    const timeline = parseHistoryFileName(name);
    if (timeline !== undefined) {
      const content = await readHistoryBytes(this.#store, this.#request, timeline, { signal: this.#signal });
      if (content !== undefined) await this.#write(oneBlock(content));
      return content !== undefined;
    }
    const call = { keys: this.#request.keys, signal: this.#signal };
    const { whole, deltas } = await findSegmentObjects(this.#store, this.#request, name, call);
    this.#deltas = deltas;
    this.#furthest = Math.max(0, ...deltas.map(({ to }) => to));
    if (whole !== undefined) {
      const content = readWhole(this.#store, whole, this.#request, call);
      await this.#write(watched(content, this.#request.replayed));
    }
    return whole !== undefined;
  }

  /** For a file that is not there as a whole. Undefined: nothing of it is there. `proveNoMore` says whether that is the end. */
  async beginning(): Promise<Beginning | undefined> {
    const { name } = this.#request;
    const isSegment = parseWalFileName(name)?.kind === 'segment';
    const call = { keys: this.#request.keys, signal: this.#signal };
    const segmentBytes = isSegment ? await archivedSegmentBytes(this.#store, this.#request, name, call) : undefined;
    if (segmentBytes === undefined) await this.#proveArchive();
    if (parseHistoryFileName(name) !== undefined) return this.#proveNoTimeline(name);
    if (!isSegment) return undefined;
    const segment = segmentBytes === undefined ? undefined : parseSegmentName(name, segmentBytes);
    if (segmentBytes === undefined || segment === undefined) {
      this.#proveEndBefore = () => this.#proveEnd(undefined);
      return undefined;
    }
    const history = await this.#historyOf(segment.timeline);
    const began = history.ancestors.at(-1)?.end ?? 0n;
    // Before the timeline began its WAL is that of another one, under whose name it is asked for next.
    if (segmentEnd(segment, segmentBytes) <= began) return undefined;
    this.#proveEndBefore = () => this.#proveEnd({ ...segment, segmentBytes });
    return this.#most(segment, segmentBytes, history);
  }

  /** Of the segment's own deltas, or of what an older timeline has of it up to where it was left, whichever goes further. */
  async #most(segment: Segment, segmentBytes: number, history: TimelineHistory): Promise<Beginning | undefined> {
    const chain = chainOfDeltas(this.#deltas);
    const start = segmentStart(segment, segmentBytes);
    const own = chain.at(-1)?.to ?? 0;
    const call = { keys: this.#request.keys, signal: this.#signal };
    const began = history.ancestors.at(-1)?.end ?? 0n;
    if (start + BigInt(own) < began) {
      const place = { store: this.#store, folder: this.#request, segmentBytes };
      const found = await findOnPath(place, history, segment.number, call);
      if (found === undefined) return undefined;
      this.#furthest = Math.max(this.#furthest, found.furthest);
      const { bytes } = found;
      return this.#beginning(() => readFound(this.#store, found, this.#request, call), { start, bytes, segmentBytes });
    }
    if (own === 0) return undefined;
    const read = (): ByteStream => readParts(this.#store, chain, start, call);
    return this.#beginning(read, { start, bytes: own, segmentBytes });
  }

  /**
   * That no later WAL is there, and no delta of the segment ends behind so many of its bytes: it would be one behind another that
   * is missing. Error: `wal-gap`.
   */
  async proveNoMore(bytes: number): Promise<void> {
    await this.#proveEndBefore();
    if (this.#furthest > bytes) throw this.#gap('what follows of its segment is there');
  }

  #beginning(
    read: () => ByteStream,
    { start, bytes, segmentBytes }: { readonly start: Lsn; readonly bytes: number; readonly segmentBytes: number },
  ): Beginning {
    const content = (): ByteStream => watched(beginningOf(read(), bytes), this.#request.replayed);
    return { bytes, end: start + BigInt(bytes), write: () => this.#write(filledUp(content(), bytes, segmentBytes)) };
  }

  /**
   * That the archive ends before the segment: nothing of its timeline lies behind it, and none that goes on from it left it only
   * behind it, so that what is missing was once there. Error: `wal-gap`.
   */
  async #proveEnd(known: (Segment & { readonly segmentBytes: number }) | undefined): Promise<void> {
    const { name } = this.#request;
    if (await this.#isFollowed()) throw this.#gap('later WAL is there');
    const timeline = Number.parseInt(name.slice(0, 8), 16);
    const call = { signal: this.#signal };
    for await (const later of laterTimelines(this.#store, this.#request, timeline, call)) {
      const end = endOf(later, timeline);
      if (end === undefined) continue;
      // Where nobody says how large segments are, one that may lie before it counts.
      const isBefore =
        known === undefined
          ? BigInt(`0x${name.slice(8, 16)}`) <= end >> 32n
          : known.number < segmentAt(timeline, end, known.segmentBytes).number;
      if (isBefore) throw this.#gap(`timeline ${later.timeline} goes on behind it, from ${formatLsn(end)} on`);
    }
  }

  /** A history is archived before the WAL of its timeline: a recovery that misses it would end on the timeline before. */
  async #proveNoTimeline(name: string): Promise<undefined> {
    const prefix = walPrefix(this.#request, name.slice(0, 8));
    for await (const _ of this.#store.list(prefix, { signal: this.#signal }))
      throw this.#gap('WAL of its timeline is there');
  }

  #gap(why: string): PgarkError {
    const { name } = this.#request;
    return new PgarkError(
      'wal-gap',
      `${name} is missing in ${this.#store.location}, and ${why}: a recovery must not end here`,
    );
  }

  /** That WAL of this server is here at all: a wrong bucket or prefix lacks every file. */
  async #proveArchive(): Promise<void> {
    const call = { signal: this.#signal };
    if ((await readWalRecord(this.#store, this.#request, call)) !== undefined) return;
    for await (const _ of this.#store.list(walPrefix(this.#request), call)) return;
    const { source, systemIdentifier } = this.#request;
    throw new PgarkError(
      'wal-unknown',
      `${this.#store.location} holds no WAL of the server ${systemIdentifier} for ${source}`,
    );
  }

  async #isFollowed(): Promise<boolean> {
    const { name } = this.#request;
    const prefix = walPrefix(this.#request, name.slice(0, 8));
    const startAfter = `${walSegmentPrefix(this.#request, name)}~`;
    for await (const { key } of this.#store.list(prefix, { startAfter, signal: this.#signal })) {
      const kind = parseWalKey(key)?.kind;
      if (kind === 'segment' || kind === 'delta') return true;
    }
    return false;
  }

  /** One that is not archived leaves the timeline without what came before it. */
  async #historyOf(timeline: number): Promise<TimelineHistory> {
    const alone = { timeline, ancestors: [] };
    if (timeline === 1) return alone;
    return (await readArchivedHistory(this.#store, this.#request, timeline, { signal: this.#signal })) ?? alone;
  }

  /** Under its name only when it is whole: the server takes what it finds there. */
  async #write(content: ByteStream): Promise<void> {
    const { target } = this.#request;
    const unfinished = `${target}.pgark-${process.pid}`;
    try {
      await pipeline(Readable.from(content, { objectMode: false }), createWriteStream(unfinished, { mode: 0o600 }), {
        signal: this.#signal,
      });
      await rename(unfinished, target);
    } catch (error) {
      await rm(unfinished, { force: true });
      this.#signal.throwIfAborted();
      if (isPgarkError(error) || systemCodeOf(error) === undefined) throw error;
      throw new PgarkError('restore-failed', `${target} cannot be written: ${messageOf(error)}`, {
        cause: error,
        hint: 'restore_command gives the place as %p: see whether this user may write there, and whether the disk has room',
      });
    }
  }
}

/** The first bytes of a segment, then zeros up to its size: a shorter file is refused by the server. */
async function* filledUp(content: ByteStream, bytes: number, segmentBytes: number): ByteStream {
  yield* content;
  for (let at = bytes; at < segmentBytes; at += BLOCK_BYTES) {
    yield new Uint8Array(Math.min(BLOCK_BYTES, segmentBytes - at));
  }
}

/** So many bytes of the content; the rest is read, and left out. */
async function* beginningOf(content: ByteStream, bytes: number): ByteStream {
  let read = 0;
  for await (const block of content) {
    const wanted = block.subarray(0, Math.max(0, bytes - read));
    read += block.length;
    if (wanted.length > 0) yield wanted;
  }
}

async function* oneBlock(bytes: Uint8Array): ByteStream {
  yield bytes;
}
