import { Worker } from 'node:worker_threads';
import { adoptBlock, allocateBlock, releaseBlock, takeMemory } from '../common/block-memory.ts';
import { assert } from '../common/errors.ts';

/** Bytes of a block that belong to one digest. Positions are those of the block, and in requests those of its memory. */
export interface DigestSpan {
  readonly from: number;
  readonly to: number;
  /** Whether the digest is complete with it, and the next span begins another one. */
  readonly isLast: boolean;
}

export type Request =
  | { readonly stream: number; readonly memory: ArrayBuffer; readonly spans: readonly DigestSpan[] }
  | { readonly stream: number; readonly memory?: undefined };

export interface Answer {
  readonly memory: ArrayBuffer | undefined;
  /** Those that were completed, in their order: 64 lower-case hexadecimal digits each. */
  readonly digests: readonly string[];
}

/** How long the thread waits for the next stream before it goes, and its memory with it. */
const IDLE_MS = 2_000;

/**
 * A thread that makes SHA-256 digests of blocks, which are lent to it one after another and come back in the same order.
 * Digests of a stream are as much work as all else that the main thread does for it, and can be made beside it.
 */
class DigestThread {
  readonly #worker: Worker;
  readonly #asked: PromiseWithResolvers<Answer>[] = [];

  #end: Error | undefined;

  constructor() {
    const file = import.meta.url.endsWith('.ts') ? './digest-thread-main.ts' : './digest-thread-main.js';
    this.#worker = new Worker(new URL(file, import.meta.url), { name: 'digests' });
    // It keeps nobody alive but those who wait for it.
    this.#worker.unref();
    this.#worker.on('message', (answer: Answer) => this.#answered()?.resolve(answer));
    const fail = (error: Error): void => {
      this.#end ??= error;
      for (let next = this.#answered(); next !== undefined; next = this.#answered()) next.reject(error);
    };
    this.#worker.on('error', fail);
    this.#worker.on('exit', () => fail(new Error('the thread that makes digests has ended')));
  }

  ask(request: Request): Promise<Answer> {
    const asked = Promise.withResolvers<Answer>();
    // Whoever asked waits for it when its turn comes.
    asked.promise.catch(() => undefined);
    if (this.#end !== undefined) {
      asked.reject(this.#end);
      return asked.promise;
    }
    if (this.#asked.length === 0) this.#worker.ref();
    this.#asked.push(asked);
    this.#worker.postMessage(request, request.memory === undefined ? [] : [request.memory]);
    return asked.promise;
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #answered(): PromiseWithResolvers<Answer> | undefined {
    const asked = this.#asked.shift();
    if (this.#asked.length === 0) this.#worker.unref();
    return asked;
  }
}

let thread: DigestThread | undefined;
let streams = 0;
let opened = 0;
let idle: NodeJS.Timeout | undefined;

function threadInUse(): DigestThread {
  if (thread === undefined || thread.hasEnded) thread = new DigestThread();
  return thread;
}

function endThread(): void {
  void thread?.end();
  thread = undefined;
}

/** One stream whose digests are made in the thread; to be closed, whatever becomes of it. */
export class DigestStream implements Disposable {
  readonly #thread: DigestThread;
  readonly #stream: number;
  #isOpen = true;

  constructor() {
    clearTimeout(idle);
    streams += 1;
    opened += 1;
    this.#stream = opened;
    this.#thread = threadInUse();
  }

  /**
   * Takes a block, and resolves with one of the same bytes when they are digested. Several may be on their way. Rejects only
   * if the thread has died; who does not wait for a block need not hear of it.
   */
  digest(block: Uint8Array): Promise<Uint8Array> {
    return this.digestSpans(block, [{ from: 0, to: block.length, isLast: false }], () => {});
  }

  /** The same for a block of which some parts belong to digests, which are told in their order as they are complete. */
  digestSpans(
    block: Uint8Array,
    spans: readonly DigestSpan[],
    onDigest: (sha256: string) => void,
  ): Promise<Uint8Array> {
    const { length } = block;
    const { memory, offset } = lendable(block);
    const moved = spans.map(({ from, to, isLast }) => ({ from: offset + from, to: offset + to, isLast }));
    const back = this.#thread.ask({ stream: this.#stream, memory, spans: moved }).then((answer) => {
      for (const sha256 of answer.digests) onDigest(sha256);
      assert(answer.memory !== undefined, 'the thread that makes digests gives back what it was lent');
      return adoptBlock(new Uint8Array(answer.memory, offset, length));
    });
    back.catch(() => undefined);
    return back;
  }

  /** The digest that is under way; of a stream without a byte there is none. */
  async end(): Promise<string | undefined> {
    const { digests } = await this.#thread.ask({ stream: this.#stream });
    return digests[0];
  }

  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    streams -= 1;
    // What an unfinished stream has under way is forgotten.
    void this.#thread.ask({ stream: this.#stream });
    if (streams === 0) idle = setTimeout(endThread, IDLE_MS).unref();
  }
}

/** The block's own memory, or a copy where somebody else sees that as well. */
function lendable(block: Uint8Array): { readonly memory: ArrayBuffer; readonly offset: number } {
  const offset = block.byteOffset;
  const own = takeMemory(block);
  if (own !== undefined) return { memory: own, offset };
  const copy = allocateBlock(block.length);
  copy.set(block);
  releaseBlock(block);
  return { memory: takeMemory(copy) ?? copy.buffer, offset: 0 };
}
