import { assert, PgarkError } from '../../common/errors.ts';
import { quoteIdentifier } from '../client/quote.ts';
import type { Answer, Conversation } from '../protocol/conversation.ts';
import { MESSAGE } from '../protocol/message.ts';
import { formatLsn, type Lsn, parseLsn } from '../wal/lsn.ts';
import { readDataRow } from './data-row.ts';
import type { ReplicationSession } from './replication-session.ts';
import { type StandbyStatus, statusUpdate, type WalHandler, WalMessages } from './wal-messages.ts';

/** How a stream of WAL ended well. */
export type WalStreamEnd =
  /** The timeline is over: the server has another one, which began at that position. */
  | { readonly kind: 'next-timeline'; readonly timeline: number; readonly begin: Lsn }
  /** We have ended it (`finish`), and the session can be used. */
  | { readonly kind: 'finished' }
  /** The server shuts down, and has sent all that it has. The session is over. */
  | { readonly kind: 'server-stopped' };

export interface WalStreamOptions {
  /** Undefined: none, and the server keeps WAL for nobody. */
  readonly slot: string | undefined;
  readonly timeline: number;
  readonly start: Lsn;
  readonly handler: WalHandler;
}

/** A stream of WAL while it goes on. */
export interface WalStream {
  /**
   * Resolves with the end. Rejects with the server's error (SQLSTATE 58P01: it does not have that WAL any more; 55000: the
   * slot was invalidated; 55006: it is in use), that of a connection that broke, the reason of `destroy`, or what the handler threw.
   */
  readonly ended: Promise<WalStreamEnd>;
  /** Says how far we are, also while paused. */
  report(status: StandbyStatus): void;
  /** Reads no more, until `resume`: the server is held up. */
  pause(): void;
  resume(): void;
  /** Ends the stream in good order, once the server has sent what it is sending. */
  finish(): void;
  /** Ends the connection at once. */
  destroy(reason: unknown): void;
}

/**
 * Streams WAL by START_REPLICATION. It resolves when the server has begun to stream, or when that is known to fail: then
 * `ended` says why.
 */
export async function streamWal(session: ReplicationSession, options: WalStreamOptions): Promise<WalStream> {
  const { slot, start, timeline, handler } = options;
  const from = slot === undefined ? '' : ` SLOT ${quoteIdentifier(slot)}`;
  const command = `START_REPLICATION${from} PHYSICAL ${formatLsn(start)} TIMELINE ${timeline}`;
  const answer = new StreamAnswer(handler);
  const conversation = await session.converse(command)(answer);
  const stream = new Stream(conversation, answer);
  await Promise.race([answer.begun, conversation.ended]).catch(() => undefined);
  return stream;
}

class Stream implements WalStream {
  readonly ended: Promise<WalStreamEnd>;
  readonly #conversation: Conversation;
  readonly #answer: StreamAnswer;

  constructor(conversation: Conversation, answer: StreamAnswer) {
    this.#conversation = conversation;
    this.#answer = answer;
    answer.replyDone = () => void conversation.send(MESSAGE.copyDone);
    this.ended = conversation.ended.then(
      () => answer.end(),
      (error) => {
        if (answer.isServerStopped) return { kind: 'server-stopped' } as const;
        throw error;
      },
    );
    // Whoever asks looks at it when there is time.
    this.ended.catch(() => undefined);
  }

  report(status: StandbyStatus): void {
    if (this.#answer.isStreaming) void this.#conversation.send(MESSAGE.copyData, statusUpdate(status));
  }

  pause(): void {
    this.#conversation.pause();
  }

  resume(): void {
    this.#conversation.resume();
  }

  finish(): void {
    this.resume();
    if (this.#answer.leave()) void this.#conversation.send(MESSAGE.copyDone);
  }

  destroy(reason: unknown): void {
    this.#conversation.destroy(reason);
  }
}

/**
 * Follows the answer to START_REPLICATION: CopyBothResponse and CopyData; at the end of a timeline CopyDone, which is to be
 * answered by ours, the row of the next timeline, and CommandComplete twice; at a shutdown CommandComplete alone, and the
 * end of the connection.
 */
class StreamAnswer implements Answer {
  readonly #messages: WalMessages;
  readonly #begun = Promise.withResolvers<void>();
  #serverDone = false;
  #weDone = false;
  #complete = false;
  #next: { readonly timeline: number; readonly begin: Lsn } | undefined;
  /** Sends our CopyDone. */
  replyDone: () => void = () => undefined;

  constructor(handler: WalHandler) {
    this.#messages = new WalMessages(handler);
  }

  /** Resolves when the server has begun. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  get isStreaming(): boolean {
    return !this.#weDone && !this.#complete;
  }

  get isServerStopped(): boolean {
    return this.#complete && !this.#serverDone;
  }

  /** Whether our CopyDone is still to be sent. */
  leave(): boolean {
    if (this.#weDone) return false;
    this.#weDone = true;
    return true;
  }

  copyData(chunk: DataView, start: number, end: number, begins: boolean): void {
    this.#messages.copyData(chunk, start, end, begins);
  }

  chunkRead(): void {}

  message(type: number, frame: Buffer): void {
    switch (type) {
      case MESSAGE.copyBothResponse:
        this.#begun.resolve();
        return;
      case MESSAGE.copyDone:
        this.#serverDone = true;
        if (this.leave()) this.replyDone();
        return;
      case MESSAGE.dataRow:
        this.#next = nextTimelineOf(frame);
        return;
      case MESSAGE.commandComplete:
        this.#complete = true;
        return;
      case MESSAGE.rowDescription:
        return;
      default:
        throw new PgarkError(
          'postgres-failed',
          `the server answered START_REPLICATION with a message of type 0x${type.toString(16)}`,
        );
    }
  }

  end(): WalStreamEnd {
    assert(this.#complete, 'the server is ready after the end of the stream');
    return this.#next === undefined ? { kind: 'finished' } : { kind: 'next-timeline', ...this.#next };
  }
}

function nextTimelineOf(frame: Buffer): { readonly timeline: number; readonly begin: Lsn } {
  const [timeline, begin] = readDataRow(frame);
  if (timeline === undefined || timeline === null || begin === undefined || begin === null) {
    throw new PgarkError('postgres-failed', 'the server named no timeline after the end of one');
  }
  return { timeline: Number(timeline), begin: parseLsn(begin) };
}
