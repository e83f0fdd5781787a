import { setImmediate } from 'node:timers/promises';
import { releaseBlock } from '../../common/block-memory.ts';
import { type ByteStream, KIB } from '../../common/bytes.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import type { Answer, Conversation, Converse } from './conversation.ts';
import { CopyAnswer } from './copy-answer.ts';
import { MESSAGE } from './message.ts';

/**
 * What is sent at once. A socket takes so much in one go as long as the server keeps up; longer messages are written piece
 * by piece, each time with a turn of the event loop in between, and the server begins with a message when it has all of it.
 */
const MESSAGE_BYTES = 32 * KIB;

export interface CopyInOptions {
  /** Ends the copy with its reason, and the session with it. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes what a source gives by `COPY … FROM STDIN`, whose rows may lie across blocks as they like, and returns the number
 * of rows that the server has counted. Blocks are released when they are sent; one is sent while the next is made.
 *
 * The copy is ended only if the source ends without throwing. A source that throws makes the server roll back; its own
 * error is thrown then, and the session can be used. So it can after an error of the server, which the rest of the source
 * is not read for. An abort ends the connection at once, and no row stays, unless the source had ended before: then nobody
 * knows whether the server is done.
 */
export async function copyIn(start: Converse, source: ByteStream, options: CopyInOptions): Promise<number> {
  const rows = await sendCopy(start, source, options);
  assert(rows !== undefined, 'a COPY ends with the number of its rows');
  return rows;
}

/** The same for any command that takes data as a COPY does; rows are undefined where it counts none. */
export async function sendCopy(
  start: Converse,
  source: ByteStream,
  { signal }: CopyInOptions,
): Promise<number | undefined> {
  const blocks = new Source(source);
  const target = new Target();
  let conversation: Conversation | undefined;
  const leave = (): void => conversation?.destroy(signal?.reason);
  signal?.addEventListener('abort', leave, { once: true });
  try {
    signal?.throwIfAborted();
    conversation = await start(target);
    if (signal?.aborted) leave();
    await sendAll(conversation, target, blocks);
    await conversation.ended;
    return target.rows;
  } catch (error) {
    if (blocks.failed && conversation !== undefined) await giveUp(conversation);
    const left = blocks.leave();
    // A source that is stuck does not delay the end of what is aborted.
    if (!signal?.aborted) await left;
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', leave);
  }
}

async function sendAll(conversation: Conversation, target: Target, blocks: Source): Promise<void> {
  const unlessEnded = interruptible(conversation);
  await unlessEnded(target.invited);
  let sent: Promise<void> = Promise.resolve();
  for (let step = await unlessEnded(blocks.next()); step.done !== true; step = await unlessEnded(blocks.next())) {
    await unlessEnded(sent);
    sent = sendBlock(conversation, step.value);
  }
  await unlessEnded(sent);
  void conversation.send(MESSAGE.copyDone);
}

/** The iteration of a source, which knows how far it has come. */
class Source {
  readonly #blocks: AsyncIterator<Uint8Array>;
  #over = false;
  /** It has thrown. */
  failed = false;

  constructor(source: ByteStream) {
    this.#blocks = source[Symbol.asyncIterator]();
  }

  async next(): Promise<IteratorResult<Uint8Array>> {
    try {
      const step = await this.#blocks.next();
      if (step.done === true) this.#over = true;
      return step;
    } catch (error) {
      this.#over = true;
      this.failed = true;
      throw error;
    }
  }

  /** Tells it that no more is wanted, unless it is at its end; resolves when it has tidied up. */
  async leave(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await Promise.resolve(this.#blocks.return?.()).catch(() => undefined);
  }
}

class Target implements Answer {
  readonly #answer = new CopyAnswer('in');
  readonly #invited = Promise.withResolvers<void>();

  /** Resolves when the server wants the data. */
  get invited(): Promise<void> {
    return this.#invited.promise;
  }

  copyData(): void {
    assert(false, 'a COPY into a table sends nothing');
  }

  chunkRead(): void {}

  message(type: number, frame: Buffer): void {
    this.#answer.message(type, frame);
    if (type === MESSAGE.copyInResponse) this.#invited.resolve();
  }

  get rows(): number | undefined {
    return this.#answer.rows;
  }
}

/**
 * Waits for what is done on our side, one thing at a time, but no longer than the conversation lasts. `Promise.race` would
 * keep something of each wait until the conversation's end, which may be a million blocks away.
 */
function interruptible(conversation: Conversation): <T>(work: Promise<T>) => Promise<T> {
  let over: { readonly error: unknown } | undefined;
  let interrupt: (error: unknown) => void = () => undefined;
  const end = (error: unknown): void => {
    over = { error };
    interrupt(error);
  };
  conversation.ended.then(
    () => end(new PgarkError('postgres-failed', 'the server ended the COPY before all was sent')),
    end,
  );
  return (work) =>
    new Promise((resolve, reject) => {
      work.then(resolve, reject);
      interrupt = reject;
      if (over !== undefined) reject(over.error);
    });
}

async function sendBlock(conversation: Conversation, block: Uint8Array): Promise<void> {
  for (let at = 0; at < block.length; at += MESSAGE_BYTES) {
    await conversation.send(MESSAGE.copyData, block.subarray(at, at + MESSAGE_BYTES));
  }
  releaseBlock(block);
  // A source that never waits and a socket that takes all at once would keep everybody else from their turn: nobody would
  // read that the server has refused the rows.
  await setImmediate();
}

/** Makes the server roll back, and waits for it, so that the session can be used. */
async function giveUp(conversation: Conversation): Promise<void> {
  void conversation.send(MESSAGE.copyFail, Buffer.from('the source of the rows has failed\0'));
  await conversation.ended.catch(() => undefined);
}
