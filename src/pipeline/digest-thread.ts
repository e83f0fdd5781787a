import { Worker } from 'node:worker_threads';
import { adoptBlock, allocateBlock, releaseBlock, takeMemory } from '../common/block-memory.ts';
import { assert, PgarkError } from '../common/errors.ts';

/** Bytes of a block that belong to one digest. Positions are those of the block, and in requests those of its memory. */
export interface DigestSpan {
  readonly from: number;
  readonly to: number;
  /** Whether the digest is complete with it, and the next span begins another one. */
  readonly isLast: boolean;
}

type Asked =
  | { readonly stream: number; readonly memory: ArrayBuffer; readonly spans: readonly DigestSpan[] }
  | { readonly stream: number; readonly memory?: undefined };

/** `id`: what its answer is recognised by. */
export type Request = Asked & { readonly id: number };

export interface Answer {
  readonly id: number;
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
  readonly #asked = new Map<number, PromiseWithResolvers<Answer>>();
  #requests = 0;
  #end: Error | undefined;

  constructor() {
    const file = import.meta.url.endsWith('.ts') ? './digest-thread-main.ts' : './digest-thread-main.js';
    this.#worker = new Worker(new URL(file, import.meta.url), { name: 'digests' });
    // It keeps nobody alive but those who wait for it.
    this.#worker.unref();
    this.#worker.on('message', (answer: Answer) => this.#answered(answer.id)?.resolve(answer));
    const fail = (cause?: unknown): void => {
      const error = new PgarkError('internal', 'the thread that makes digests has ended', { cause });
      this.#end ??= error;
      for (const id of this.#asked.keys()) this.#answered(id)?.reject(error);
    };
    this.#worker.on('error', fail);
    this.#worker.on('messageerror', fail);
    this.#worker.on('exit', () => fail());
  }

  ask(request: Asked): Promise<Answer> {
    const asked = Promise.withResolvers<Answer>();
    // Whoever asked waits for it when its turn comes.
    asked.promise.catch(() => undefined);
    this.#requests += 1;
    const id = this.#requests;
    try {
      if (this.#end !== undefined) throw this.#end;
      this.#worker.postMessage(
        { ...request, id } satisfies Request,
        request.memory === undefined ? [] : [request.memory],
      );
      if (this.#asked.size === 0) this.#worker.ref();
      this.#asked.set(id, asked);
    } catch (error) {
      asked.reject(error);
    }
    return asked.promise;
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #answered(id: number): PromiseWithResolvers<Answer> | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (this.#asked.size === 0) this.#worker.unref();
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
    this.#thread = threadInUse();
    clearTimeout(idle);
    streams += 1;
    opened += 1;
    this.#stream = opened;
  }

  /**
   * Takes a block, and resolves with one of the same bytes when they are digested. Several may be on their way. Rejects if the
   * thread has died (`internal`); who does not wait for a block need not hear of it.
   */
  digest(block: Uint8Array): Promise<Uint8Array> {
    return this.digestSpans(block, [{ from: 0, to: block.length, isLast: false }], () => {});
  }

  /**
   * The same for a block of which some parts belong to digests, which are told in their order as they are complete. Rejects
   * also with what `onDigest` throws.
   */
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
  const memory = takeMemory(copy);
  assert(memory !== undefined, 'nobody else sees a block that was just made');
  return { memory, offset: 0 };
}
