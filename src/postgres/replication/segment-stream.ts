import type { Clock } from '../../common/clock.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import { MIB } from '../../common/bytes.ts';
import type { Lsn } from '../wal/lsn.ts';
import type { SegmentContent, WalIdentity } from '../wal/segment-content.ts';
import { SegmentCutter } from '../wal/segment-cutter.ts';
import type { ServerTime } from '../wal/server-time.ts';
import { CaughtUp, type ServerPosition } from './caught-up.ts';
import type { ReplicationSession } from './replication-session.ts';
import { StatusReports } from './status-reports.ts';
import { streamWal, type WalStream, type WalStreamEnd } from './wal-stream.ts';

export interface SegmentStreamOptions {
  /** Undefined: none, and the server keeps WAL for nobody. */
  readonly slot: string | undefined;
  readonly timeline: number;
  /** The start of a segment. */
  readonly start: Lsn;
  readonly identity: WalIdentity;
  /** Whether the server itself writes WAL, and on this timeline: else more is committed than it can tell of. */
  readonly isWriter: boolean;
  readonly clock: Clock;
  /** How often the server hears from us at the least; well below its wal_sender_timeout. */
  readonly statusMs: number;
  /** See `StatusReportsOptions`. Default: 0. */
  readonly withholdAfterMs?: number;
}

/** Bytes of one segment that were received, and the server's clock when the first and the last of them were sent. */
export interface ReceivedWal {
  readonly content: SegmentContent;
  /** Offsets in the segment. */
  readonly from: number;
  readonly to: number;
  readonly since: ServerTime;
  readonly until: ServerTime;
  /** How far the server had WAL at `until`, and with it all that was committed. Undefined: it does not write WAL itself. */
  readonly serverEnd: Lsn | undefined;
}

/** What ends waiting for a full segment, besides one. */
export interface WaitOptions {
  readonly withinMs?: number;
  /** That anything behind the position has come. */
  readonly beyond?: Lsn | undefined;
  readonly signal?: AbortSignal;
}

/** Full segments that may wait to be taken before the server is held up: so many bytes, one at the least. */
const WAITING_BYTES_MAX = 32 * MIB;
/** A server that says nothing for so long is gone, as wal_receiver_timeout has it: each status asks it for an answer. */
const SILENCE_MS_MAX = 60_000;
const LOOK_MS = 5_000;

/**
 * WAL of one timeline as it comes from a server, cut into segments. Full ones wait, in order, until they are taken (`next`);
 * while there are enough of them the server is held up. It is told all the time how far we are.
 */
export class SegmentStream {
  readonly ended: Promise<WalStreamEnd>;
  readonly #stream: WalStream;
  readonly #intake: Intake;
  #failure: { readonly error: unknown } | undefined;
  #isOver = false;

  /** Errors of the start are those of the stream: `next` and `ended` have them. */
  static async start(session: ReplicationSession, options: SegmentStreamOptions): Promise<SegmentStream> {
    const { slot, timeline, start } = options;
    const intake = new Intake(options);
    const stream = await streamWal(session, { slot, timeline, start, handler: intake });
    intake.stream = stream;
    return new SegmentStream(stream, intake);
  }

  private constructor(stream: WalStream, intake: Intake) {
    this.#stream = stream;
    this.#intake = intake;
    this.ended = stream.ended;
    const over = (failure?: { readonly error: unknown }): void => {
      this.#isOver = true;
      this.#failure = failure;
      intake.end();
    };
    stream.ended.then(
      () => over(),
      (error) => over({ error }),
    );
  }

  /** Behind the last byte that has come. */
  get received(): Lsn {
    return this.#intake.received;
  }

  /** The last that the server has said: it has WAL up to there at the least. Undefined until it has said something. */
  get server(): ServerPosition | undefined {
    return this.#intake.server;
  }

  /** When, as is known by now, no more was committed than there is up to the position. */
  get committed(): ServerPosition | undefined {
    return this.#intake.committed;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether enough waits to be taken, so that the server is held up. */
  get isHeldUp(): boolean {
    return this.#intake.isFull;
  }

  /**
   * The next full segment; its taker releases it. Undefined if there is none within the time, or none but more than the
   * position given has come, and at the end. Throws the stream's error, once every full segment has been taken. One call at
   * a time.
   */
  async next(options: WaitOptions = {}): Promise<ReceivedWal | undefined> {
    const taken = this.#intake.take();
    if (taken !== undefined) return taken;
    if (!this.#isOver && options.withinMs !== 0) await this.#intake.waitForMore(options);
    const next = this.#intake.take();
    if (next === undefined && this.#failure !== undefined) throw this.#failure.error;
    return next;
  }

  /** Takes the bytes behind the last full segment, from an offset on, as far as they have come. Undefined: there are none. */
  tail(from = 0): ReceivedWal | undefined {
    return this.#intake.tail(from);
  }

  /** All before the position lasts: the server need keep it no longer. */
  lasts(lsn: Lsn): void {
    this.#intake.reports.lasts(lsn);
  }

  /** Ends the stream in good order; full segments that have come can still be taken. */
  finish(): void {
    this.#stream.finish();
  }

  /** Ends the connection at once. */
  destroy(reason: unknown): void {
    this.#stream.destroy(reason);
  }

  /** Gives the memory back. Nothing can be taken any more. */
  release(): void {
    this.#intake.release();
  }
}

/** What the stream's handler keeps. */
class Intake {
  stream: WalStream | undefined;
  readonly reports: StatusReports;
  readonly #cutter: SegmentCutter;
  readonly #clock: Clock;
  readonly #waitingMax: number;
  readonly #waiting: ReceivedWal[] = [];
  #wake: () => void = () => undefined;
  #wakesBeyond: Lsn | undefined;
  server: ServerPosition | undefined;
  readonly #isWriter: boolean;
  readonly #caughtUp = new CaughtUp();
  /** When the server had no more WAL than up to there. */
  #had: ServerPosition | undefined;
  /** Since something was heard, or held up; what passes while this process has no turn does not count. */
  #silentMs = 0;
  readonly #ended = new AbortController();
  /** When the first byte came of what `tail` has not taken yet, and the first of the segment. */
  #tailSince: ServerTime | undefined;
  #segmentSince: ServerTime | undefined;

  constructor(options: SegmentStreamOptions) {
    const { timeline, start, identity, clock, statusMs } = options;
    this.#clock = clock;
    this.#isWriter = options.isWriter;
    this.#waitingMax = Math.max(1, Math.floor(WAITING_BYTES_MAX / identity.segmentBytes));
    this.#cutter = new SegmentCutter(timeline, start, identity, (content) => this.#isWhole(content));
    this.reports = new StatusReports(start, {
      clock,
      everyMs: statusMs,
      withholdAfterMs: options.withholdAfterMs ?? 0,
      send: (status) => {
        if (status.asks && this.stream !== undefined) this.#caughtUp.asks();
        this.stream?.report(status);
      },
    });
    void this.#listen();
  }

  get received(): Lsn {
    return this.#cutter.end;
  }

  get committed(): ServerPosition | undefined {
    return this.#isWriter ? this.#had : undefined;
  }

  get isFull(): boolean {
    return this.#waiting.length >= this.#waitingMax;
  }

  wal(lsn: Lsn, bytes: Uint8Array): void {
    this.#segmentSince ??= this.server?.time;
    this.#tailSince ??= this.server?.time;
    this.#cutter.append(lsn, bytes);
    // What follows a border within these bytes came with them.
    if (this.#cutter.current.filledBytes > 0) {
      this.#segmentSince ??= this.server?.time;
      this.#tailSince ??= this.server?.time;
    }
    this.reports.received(this.#cutter.end);
    if (this.#wakesBeyond !== undefined && this.received > this.#wakesBeyond) this.#wake();
  }

  told(end: Lsn, time: ServerTime): void {
    this.#silentMs = 0;
    this.server = { end, time };
    this.#had = this.server;
    this.#caughtUp.wal();
  }

  sent(end: Lsn, time: ServerTime, isAnswer: boolean): void {
    this.#silentMs = 0;
    const known = this.server?.end ?? 0n;
    this.server = { end: end > known ? end : known, time };
    if (isAnswer) this.#had = this.#caughtUp.answered({ end, time }) ?? this.#had;
  }

  replyWanted(): void {
    this.reports.soon();
  }

  take(): ReceivedWal | undefined {
    const taken = this.#waiting.shift();
    if (!this.isFull) this.stream?.resume();
    return taken;
  }

  tail(from: number): ReceivedWal | undefined {
    const content = this.#cutter.current;
    if (content.filledBytes <= from) return undefined;
    const since = from === 0 ? this.#segmentSince : this.#tailSince;
    assert(since !== undefined && this.#had !== undefined, 'WAL comes with the server’s time');
    this.#tailSince = undefined;
    const { time: until } = this.#had;
    return { content, from, to: content.filledBytes, since, until, serverEnd: this.committed?.end };
  }

  async waitForMore({ withinMs, beyond, signal }: WaitOptions): Promise<void> {
    if (beyond !== undefined && this.received > beyond) return;
    this.#wakesBeyond = beyond;
    const woken = new AbortController();
    const more = new Promise<void>((resolve) => {
      this.#wake = resolve;
      signal?.addEventListener('abort', () => resolve(), { once: true, signal: woken.signal });
      if (signal?.aborted) resolve();
    });
    try {
      if (withinMs === undefined) await more;
      else await Promise.race([more, this.#clock.sleep(withinMs, woken.signal).catch(() => undefined)]);
    } finally {
      woken.abort(new Error('there is more'));
    }
  }

  end(): void {
    this.#ended.abort(new Error('the stream has ended'));
    this.reports.end();
    this.#wake();
  }

  release(): void {
    for (const { content } of this.#waiting.splice(0)) content.release();
    this.#cutter.current.release();
  }

  /** A connection that broke without a word, on the way through whatever is between, would be waited for without end. */
  async #listen(): Promise<void> {
    const { signal } = this.#ended;
    let lookedMs = this.#clock.monotonicMs();
    while (this.#silentMs < SILENCE_MS_MAX) {
      await this.#clock.sleep(LOOK_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      const nowMs = this.#clock.monotonicMs();
      this.#silentMs = this.isFull ? 0 : this.#silentMs + Math.min(nowMs - lookedMs, 2 * LOOK_MS);
      lookedMs = nowMs;
    }
    this.stream?.destroy(
      new PgarkError(
        'postgres-unreachable',
        `the server has sent nothing for ${SILENCE_MS_MAX / 1_000} s on the stream of its WAL, and was asked to`,
        { hint: 'see whether the server runs, and what the network between does with connections that are idle' },
      ),
    );
  }

  #isWhole(content: SegmentContent): void {
    assert(this.#had !== undefined, 'WAL comes with the server’s time');
    const { time: until } = this.#had;
    const since = this.#segmentSince ?? until;
    this.#waiting.push({ content, from: 0, to: content.filledBytes, since, until, serverEnd: this.committed?.end });
    this.#segmentSince = undefined;
    this.#tailSince = undefined;
    if (this.isFull) this.stream?.pause();
    this.#wake();
  }
}
