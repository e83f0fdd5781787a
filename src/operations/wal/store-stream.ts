import { MIB } from '../../common/bytes.ts';
import type { ReceivedWal, SegmentStream } from '../../postgres/replication/segment-stream.ts';
import type { WalStreamEnd } from '../../postgres/replication/wal-stream.ts';
import { formatLsn, type Lsn } from '../../postgres/wal/lsn.ts';
import type { WalIdentity } from '../../postgres/wal/segment-content.ts';
import { formatServerTime } from '../../postgres/wal/server-time.ts';
import { segmentAt, segmentName, segmentStartAt } from '../../postgres/wal/segment.ts';
import type { Archives } from './archives.ts';
import type { ReceiverWorld } from './receiver-world.ts';
import { SegmentDeltas } from './segment-deltas.ts';
import { SegmentLine } from './segment-line.ts';
import type { StartPosition } from './start-position.ts';

const NOTE_EVERY_MS = 60_000;
/** So much is never left to the next time: of large segments a flush may come too late by time alone. */
const FLUSH_BYTES = 16n * BigInt(MIB);

export interface StoreStreamOptions {
  readonly stream: SegmentStream;
  readonly start: StartPosition;
  readonly identity: WalIdentity;
  readonly archives: Archives;
}

/**
 * Archives what a stream gives, in its order: full segments as they come, what has come behind them every so often. Resolves
 * with the stream's end, when all of it is archived; told to stop, it ends the stream. However the stream ends, what has come
 * is archived before that is said, unless `giveUp` says otherwise.
 */
export async function storeStream(world: ReceiverWorld, options: StoreStreamOptions): Promise<WalStreamEnd> {
  return new StreamStoring(world, options).run();
}

class StreamStoring {
  readonly #world: ReceiverWorld;
  readonly #stream: SegmentStream;
  readonly #identity: WalIdentity;
  readonly #timeline: number;
  readonly #archives: Archives;
  readonly #line: SegmentLine;
  readonly #untilStopped: AbortSignal;
  readonly #untilGivenUp: AbortSignal;
  #archived: Lsn;
  /** Up to there everything is archived, or on its way. */
  #taken: Lsn;
  #deltas: SegmentDeltas;
  /** Something was archived of the segment that is being filled before it came. */
  #mayBeThere = true;
  #notedMs = -Infinity;
  #noting: Promise<void> = Promise.resolve();

  constructor(world: ReceiverWorld, { stream, start, identity, archives }: StoreStreamOptions) {
    this.#world = world;
    this.#stream = stream;
    this.#identity = identity;
    this.#timeline = start.timeline;
    this.#archives = archives;
    this.#archived = start.lsn;
    this.#taken = start.lsn;
    this.#line = new SegmentLine({
      archives,
      identity,
      sealer: world.request.sealer,
      signal: world.giveUp,
      onArchived: (end) => this.#isArchived(end),
    });
    this.#untilStopped = AbortSignal.any([world.stop, this.#line.failed]);
    this.#untilGivenUp = AbortSignal.any([world.giveUp, this.#line.failed]);
    this.#deltas = this.#deltasAt(start.lsn);
  }

  async run(): Promise<WalStreamEnd> {
    const { giveUp } = this.#world;
    // All before the start is archived, or lost.
    this.#isArchived(this.#archived);
    this.#mayBeThere = await this.#deltas.findLeft(giveUp);
    try {
      return await this.#storeAll();
    } finally {
      await this.#line.done().catch(() => undefined);
      this.#note();
      await this.#noting;
    }
  }

  async #storeAll(): Promise<WalStreamEnd> {
    const { request, context, stop, giveUp } = this.#world;
    const { clock } = context;
    let flushMs = clock.monotonicMs() + request.flushMs;
    for (;;) {
      giveUp.throwIfAborted();
      this.#line.failed.throwIfAborted();
      // Before anything is waited for: it may have been told while a segment was stored.
      if (stop.aborted) this.#stream.finish();
      const wasOver = this.#stream.isOver;
      const full = await this.#next(Math.max(0, flushMs - clock.monotonicMs()));
      this.#world.state.received = this.#stream.received;
      if (full !== undefined) {
        await this.#storeFull(full);
        this.#noteNowAndThen();
        continue;
      }
      const isDue = clock.monotonicMs() >= flushMs || this.#stream.received - this.#taken >= FLUSH_BYTES;
      if (isDue || request.synchronous === true || wasOver) await this.#storeTail(giveUp);
      if (isDue) flushMs = clock.monotonicMs() + request.flushMs;
      this.#world.state.heard(this.#stream);
      this.#noteNowAndThen();
      if (wasOver) return this.#stream.ended;
    }
  }

  /** What has come before a connection broke is archived before that is thrown. */
  async #next(withinMs: number): Promise<ReceivedWal | undefined> {
    const { request, stop, giveUp } = this.#world;
    try {
      return await this.#stream.next({
        withinMs,
        beyond: request.synchronous === true ? this.#taken : this.#taken + FLUSH_BYTES - 1n,
        // Once told to stop, the server's answer is waited for.
        signal: stop.aborted ? this.#untilGivenUp : this.#untilStopped,
      });
    } catch (error) {
      await this.#storeTail(giveUp);
      throw error;
    }
  }

  async #storeFull(full: ReceivedWal): Promise<void> {
    const { giveUp } = this.#world;
    const { content } = full;
    const { end } = content;
    const deltas = this.#deltas;
    try {
      await deltas.compare(full, giveUp);
    } catch (error) {
      content.release();
      throw error;
    }
    this.#deltas = this.#deltasAt(end);
    this.#taken = end;
    await this.#line.add(full, deltas);
    if (this.#mayBeThere) this.#mayBeThere = await this.#deltas.findLeft(giveUp);
  }

  async #storeTail(signal: AbortSignal): Promise<void> {
    await this.#line.done();
    const start = segmentStartAt(this.#stream.received, this.#identity.segmentBytes);
    // A full segment that waits comes first.
    if (this.#archived < start || this.#archived >= this.#stream.received) return;
    const tail = this.#stream.tail(Number(this.#archived - start));
    if (tail === undefined) return;
    await this.#deltas.put(tail, signal);
    this.#taken = start + BigInt(tail.to);
    this.#isArchived(this.#taken);
  }

  #isArchived(lsn: Lsn): void {
    this.#archived = lsn;
    this.#world.state.heard(this.#stream);
    this.#world.state.isArchived(lsn);
    this.#stream.lasts(lsn);
  }

  #deltasAt(lsn: Lsn): SegmentDeltas {
    const { segmentBytes } = this.#identity;
    return new SegmentDeltas(
      segmentName(segmentAt(this.#timeline, lsn, segmentBytes), segmentBytes),
      this.#archives,
      this.#identity,
    );
  }

  #noteNowAndThen(): void {
    if (this.#world.context.clock.monotonicMs() - this.#notedMs >= NOTE_EVERY_MS) this.#note();
  }

  #note(): void {
    const { state, context, request, giveUp } = this.#world;
    const { coveredUntil } = state.snapshot();
    if (coveredUntil === undefined || giveUp.aborted) return;
    this.#notedMs = context.clock.monotonicMs();
    const head = {
      timeline: this.#timeline,
      lsn: formatLsn(this.#archived),
      serverTime: formatServerTime(coveredUntil),
      writtenAt: context.clock.now().toISOString(),
      slot: request.slot,
      host: context.host,
      pid: context.pid,
    };
    this.#noting = this.#noting.then(() => this.#archives.note(head, giveUp));
  }
}
