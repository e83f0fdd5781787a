import type { Duplex } from 'node:stream';
import { type Client, type Connection, DatabaseError, type Submittable } from 'pg';
import { freeChunk } from '../../common/block-memory.ts';
import { PgarkError } from '../../common/errors.ts';
import { BulkSocket } from './bulk-socket.ts';
import { type FrameHandler, FrameReader } from './frame-reader.ts';
import { HEADER_BYTES, LENGTH_BYTES, MESSAGE } from './message.ts';

/** What takes the server's answer to one query. What it throws ends the connection, and is the conversation's error. */
export interface Answer {
  readonly copyData: FrameHandler['copyData'];
  readonly copyMessages?: FrameHandler['copyMessages'];
  /** A message of the answer, whole, with its header; none that concerns the session rather than the query. */
  message(type: number, frame: Buffer): void;
  /** All of a chunk from the socket has been handed over. */
  chunkRead(): void;
}

/** A simple query whose answer is read by ourselves, and not by `pg`. */
export interface Conversation {
  /**
   * Resolves when the server is ready for the next query, and the connection is `pg`'s again. Rejects with the server's
   * error, once the server is ready after it or has ended the connection; with the error of a connection that broke; with
   * the reason of `destroy`; or with what the answer's handler threw.
   */
  readonly ended: Promise<void>;
  /**
   * Sends a message and resolves when the socket has taken it; until then the content is not to be changed. It never
   * resolves if the conversation ends before, whose error says why.
   */
  send(type: number, content?: Uint8Array): Promise<void>;
  /** Holds up the server, by reading no more, until `resume`. */
  pause(): void;
  resume(): void;
  /** Ends the connection at once, and with it the session. No effect after the conversation's end. */
  destroy(reason: unknown): void;
}

/** Begins the conversation of one statement. */
export type Converse = (answer: Answer) => Promise<Conversation>;

/**
 * @internal The library's types do not depend on those of `pg`.
 *
 * Asks a query by the simple protocol on the connection of a client, after those that it was given before, and hands the
 * answer over as it comes from the socket: `pg` makes an object of every row, and reads on however slow its user is.
 * `explain` makes ours of the errors of the server (a DatabaseError of `pg`) and of the connection.
 *
 * All that is known here of the inside of `pg` is in this file. A query of one's own class is the way that it offers:
 * `submit` is called when its turn has come, `handleError` when the server or the connection fails. Its parser is one
 * listener of the socket's `data`. That is taken off for the time being, and given whatever concerns the session: errors,
 * notices, parameters, notifications, and at last that the server is ready.
 */
export function converse(
  client: Client,
  sql: string,
  answer: Answer,
  explain: (error: unknown) => Error,
): Conversation {
  return client.query(new TakenOver(sql, answer, explain));
}

/** What the parser of `pg` takes at any time. */
const OF_THE_SESSION: ReadonlySet<number> = new Set([
  MESSAGE.errorResponse,
  MESSAGE.noticeResponse,
  MESSAGE.notificationResponse,
  MESSAGE.parameterStatus,
]);

const NO_CONTENT = new Uint8Array(0);

type DataListener = (chunk: Buffer) => void;

/** The socket while it is ours, and the listener that `pg` had on it. */
interface Taken {
  readonly connection: Connection;
  readonly stream: Duplex;
  readonly parse: DataListener;
}

class TakenOver implements Submittable, Conversation, FrameHandler {
  readonly #sql: string;
  readonly #answer: Answer;
  readonly #explain: (error: unknown) => Error;
  readonly copyMessages: FrameHandler['copyMessages'];
  readonly #reader = new FrameReader(this);
  readonly #ended = Promise.withResolvers<void>();
  #settled = false;
  #taken: Taken | undefined;
  /** What the server said; thrown when it is ready again, or gone. */
  #refusal: Error | undefined;
  #ready: Buffer | undefined;

  constructor(sql: string, answer: Answer, explain: (error: unknown) => Error) {
    this.#sql = sql;
    this.#answer = answer;
    this.#explain = explain;
    this.copyMessages = answer.copyMessages?.bind(answer);
    // Whoever asks looks at it when there is time.
    this.#ended.promise.catch(() => undefined);
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Called by `pg`, which takes what is returned for the query's error. */
  submit(connection: Connection): Error | null {
    if (this.#settled) return new Error('the query was given up before its turn');
    const { stream } = connection;
    const listeners = stream.listeners('data');
    const [parse] = listeners;
    if (parse === undefined || listeners.length > 1) {
      return new PgarkError('internal', `pg reads its socket by ${listeners.length} listeners, where it had one`, {
        hint: 'the package pg that is installed is of another version than the one that pgark was made with: install that',
      });
    }
    this.#taken = { connection, stream, parse: parse as DataListener };
    if (stream instanceof BulkSocket) stream.passTo(this.#read);
    else {
      // In this order: a flowing stream without a listener loses what comes.
      stream.on('data', this.#readOwn);
      stream.off('data', this.#taken.parse);
    }
    connection.on('end', this.#hangUp);
    void this.send(MESSAGE.query, Buffer.from(`${this.#sql}\0`));
    return null;
  }

  /** Called by `pg`: in the midst of being given an error of the server, or when the connection is lost. */
  handleError(error: Error): void {
    if (error instanceof DatabaseError && this.#taken !== undefined) this.#refusal = this.#explain(error);
    else this.#settle(this.#explain(error));
  }

  /** Called by `pg` when it was given that message. */
  handleReadyForQuery(): void {}

  /** Called by our reader, as is `message`. */
  copyData(chunk: DataView, start: number, end: number, begins: boolean): void {
    this.#answer.copyData(chunk, start, end, begins);
  }

  message(type: number, frame: Buffer): boolean {
    if (OF_THE_SESSION.has(type)) this.#taken?.parse(frame);
    else if (type === MESSAGE.readyForQuery) this.#ready = frame;
    else this.#answer.message(type, frame);
    return this.#ready !== undefined;
  }

  send(type: number, content: Uint8Array = NO_CONTENT): Promise<void> {
    return new Promise((resolve) => {
      if (this.#settled || this.#taken === undefined) return;
      const { stream } = this.#taken;
      const header = Buffer.alloc(HEADER_BYTES);
      header.writeUInt8(type, 0);
      header.writeInt32BE(LENGTH_BYTES + content.length, 1);
      stream.cork();
      stream.write(header);
      stream.write(content, (error) => {
        if (!error) resolve();
      });
      stream.uncork();
    });
  }

  pause(): void {
    if (!this.#settled) this.#taken?.stream.pause();
  }

  resume(): void {
    if (!this.#settled && this.#taken?.stream.isPaused()) this.#taken.stream.resume();
  }

  destroy(reason: unknown): void {
    if (this.#settled) return;
    this.#settle(reason);
    this.#taken?.stream.destroy();
  }

  readonly #read = (chunk: Buffer): void => {
    let readBytes = chunk.length;
    try {
      readBytes = this.#reader.push(chunk);
      this.#answer.chunkRead();
    } catch (error) {
      this.destroy(error);
    }
    if (this.#ready !== undefined) this.#handBack(Buffer.concat([this.#ready, chunk.subarray(readBytes)]));
  };

  /** A chunk of a usual socket has memory of its own, which nobody else has seen. */
  readonly #readOwn = (chunk: Buffer): void => {
    this.#read(chunk);
    freeChunk(chunk);
  };

  /** Once the server has refused the query, `pg` tells us no more of the connection. */
  readonly #hangUp = (): void => {
    if (this.#refusal !== undefined) this.#settle(this.#refusal);
  };

  #handBack(rest: Buffer): void {
    const taken = this.#taken;
    if (taken === undefined || this.#settled) return;
    this.resume();
    this.#settle(this.#refusal);
    if (taken.stream instanceof BulkSocket) taken.stream.passTo(undefined);
    else {
      taken.stream.on('data', taken.parse);
      taken.stream.off('data', this.#readOwn);
    }
    taken.parse(rest);
  }

  #settle(error: unknown): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#taken?.connection.off('end', this.#hangUp);
    if (error === undefined) this.#ended.resolve();
    else this.#ended.reject(error);
  }
}
