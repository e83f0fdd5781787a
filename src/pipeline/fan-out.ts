import { releaseBlock, shareBlock } from '../common/block-memory.ts';
import type { ByteStream } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';

/**
 * Blocks that a branch may be behind the one that is furthest. It evens out that consumers take blocks in bursts: a store
 * fills a part at once, then sends it.
 */
const BLOCKS_BEHIND_MAX = 4;

/**
 * Hands the blocks of one source to several branches. Each branch sees the same stream: all blocks in order, and its end
 * or its error. A block is read when a branch wants one and no other is `BLOCKS_BEHIND_MAX` blocks behind, so the slowest
 * sets the pace and memory is bounded. A branch that leaves (its consumer stops iterating, or `leave`) holds up nobody
 * any more. When all have left, the source is told to end.
 *
 * Branches share the memory of blocks: a consumer must not change them.
 */
export class FanOut {
  readonly branches: readonly FanOutBranch[];
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #live: Set<FanOutBranch>;
  readonly #onAllLeft: () => void;
  #pulling = false;
  #end: BranchEnd | { readonly kind: 'left' } | undefined;

  constructor(source: ByteStream, branches: number, onAllLeft: () => void = () => {}) {
    assert(Number.isSafeInteger(branches) && branches > 0, 'a stream has at least one branch');
    this.#source = source[Symbol.asyncIterator]();
    this.#onAllLeft = onAllLeft;
    const hub = {
      wanted: () => this.#pull(),
      left: (branch: FanOutBranch) => this.#left(branch),
    };
    this.branches = Array.from({ length: branches }, () => new FanOutBranch(hub));
    this.#live = new Set(this.branches);
  }

  /** Whether the source has been asked for a block and has not given it yet. */
  get pulling(): boolean {
    return this.#pulling;
  }

  #pull(): void {
    if (this.#pulling || this.#end !== undefined) return;
    const live = [...this.#live];
    if (!live.some((branch) => branch.waiting) || live.some((branch) => branch.behind >= BLOCKS_BEHIND_MAX)) return;
    this.#pulling = true;
    this.#source.next().then(
      (step) => {
        this.#pulling = false;
        if (step.done === true) this.#finish({ kind: 'complete' });
        else this.#hand(step.value);
      },
      (error: unknown) => {
        this.#pulling = false;
        this.#finish({ kind: 'failed', error });
      },
    );
  }

  #hand(block: Uint8Array): void {
    const live = [...this.#live];
    if (live.length === 0) {
      releaseBlock(block);
      return;
    }
    const views = shareBlock(block, live.length);
    for (const [index, branch] of live.entries()) {
      const view = views[index];
      assert(view !== undefined, 'each branch has its view');
      branch.give(view);
    }
    this.#pull();
  }

  #finish(end: BranchEnd): void {
    this.#end = end;
    for (const branch of this.#live) branch.finish(end);
  }

  #left(branch: FanOutBranch): void {
    if (!this.#live.delete(branch)) return;
    if (this.#live.size > 0) {
      this.#pull();
      return;
    }
    this.#onAllLeft();
    if (this.#end !== undefined) return;
    this.#end = { kind: 'left' };
    // What a source says while it is given up changes nothing.
    Promise.resolve(this.#source.return?.()).catch(() => {});
  }
}

type BranchEnd = { readonly kind: 'complete' } | { readonly kind: 'failed'; readonly error: unknown };

interface Hub {
  /** A branch waits for a block, or has taken one. */
  wanted(): void;
  left(branch: FanOutBranch): void;
}

/** One consumer's side of a `FanOut`. Read it once. */
export class FanOutBranch implements AsyncIterable<Uint8Array> {
  readonly #hub: Hub;
  readonly #queue: Uint8Array[] = [];
  #pending: PromiseWithResolvers<IteratorResult<Uint8Array>> | undefined;
  #end: BranchEnd | undefined;

  constructor(hub: Hub) {
    this.#hub = hub;
  }

  /** Whether the consumer waits for a block: it is the source, or a slower branch, that holds the stream up. */
  get waiting(): boolean {
    return this.#pending !== undefined;
  }

  /** Blocks that were read and that the consumer has not taken yet. */
  get behind(): number {
    return this.#queue.length;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return {
      next: () => this.#next(),
      return: async () => {
        this.leave();
        return { done: true, value: undefined };
      },
    };
  }

  /**
   * Gives the branch up, also while its consumer waits for a block or hangs. Whatever that asks for afterwards is refused
   * with the reason, even if the source has come to its end: a stream that was left never looks complete.
   */
  leave(reason: unknown = new Error('the stream was left')): void {
    this.finish({ kind: 'failed', error: reason });
    this.#hub.left(this);
  }

  /** For the hub. */
  give(block: Uint8Array): void {
    const pending = this.#pending;
    if (pending === undefined) {
      this.#queue.push(block);
      return;
    }
    this.#pending = undefined;
    pending.resolve({ done: false, value: block });
  }

  /** For the hub. A failure overtakes blocks that were not taken yet: they are of no use any more. */
  finish(end: BranchEnd): void {
    this.#end = end;
    if (end.kind === 'failed') this.#discard();
    const pending = this.#pending;
    this.#pending = undefined;
    if (pending === undefined) return;
    if (end.kind === 'failed') pending.reject(end.error);
    else pending.resolve({ done: true, value: undefined });
  }

  #next(): Promise<IteratorResult<Uint8Array>> {
    assert(this.#pending === undefined, 'a branch has one consumer, which waits for one block at a time');
    const block = this.#queue.shift();
    if (block !== undefined) {
      this.#hub.wanted();
      return Promise.resolve({ done: false, value: block });
    }
    if (this.#end?.kind === 'failed') return Promise.reject(this.#end.error);
    if (this.#end?.kind === 'complete') return Promise.resolve({ done: true, value: undefined });
    const pending = Promise.withResolvers<IteratorResult<Uint8Array>>();
    // Who gave up waiting may not look at it any more.
    pending.promise.catch(() => {});
    this.#pending = pending;
    this.#hub.wanted();
    return pending.promise;
  }

  #discard(): void {
    for (const block of this.#queue.splice(0)) releaseBlock(block);
  }
}
