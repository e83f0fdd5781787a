import { BlockQueue, type Flow } from './block-queue.ts';
import { assert } from './errors.ts';

/** One of several streams that come one after another from the same source. */
export interface SequencePart<Label> {
  readonly label: Label;
  readonly queue: BlockQueue;
}

/**
 * Hands on streams that a source sends one after another, each as a queue of blocks. The source is held up while the
 * reader has enough of a stream, and while a stream has begun to which the reader has not come.
 */
export class StreamSequence<Label> {
  readonly #flow: Flow;
  readonly #waiting: SequencePart<Label>[] = [];
  /** What holds the source up. */
  readonly #holds = new Set<unknown>();
  #current: SequencePart<Label> | undefined;
  #outcome: 'complete' | { readonly error: unknown } | undefined;
  #wake: () => void = () => undefined;

  constructor(flow: Flow) {
    this.#flow = flow;
  }

  /** What comes from now on is of this stream; the one before is complete. */
  begin(label: Label): void {
    this.#current?.queue.end();
    const hold = {};
    const queue = new BlockQueue({ pause: () => this.#hold(hold), resume: () => this.#letGo(hold) });
    this.#current = { label, queue };
    this.#waiting.push(this.#current);
    this.#hold(this.#current);
    this.#wake();
  }

  append(bytes: DataView, start: number, end: number): void {
    assert(this.#current !== undefined, 'bytes belong to a stream');
    this.#current.queue.append(bytes, start, end);
  }

  /** Nothing more comes, and what came is complete. */
  end(): void {
    this.#outcome ??= 'complete';
    this.#current?.queue.end();
    this.#wake();
  }

  /** The stream that has begun and `next` throw the error. No effect after `end`. */
  fail(error: unknown): void {
    this.#outcome ??= { error };
    if (this.#outcome !== 'complete') this.#current?.queue.fail(error);
    this.#wake();
  }

  /** The next stream; to be asked for when the one before was read to its end. Undefined behind the last one. */
  async next(): Promise<SequencePart<Label> | undefined> {
    for (;;) {
      const part = this.#waiting.shift();
      if (part !== undefined) {
        this.#letGo(part);
        return part;
      }
      if (this.#outcome === 'complete') return undefined;
      if (this.#outcome !== undefined) throw this.#outcome.error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #hold(reason: unknown): void {
    if (this.#holds.size === 0) this.#flow.pause();
    this.#holds.add(reason);
  }

  #letGo(reason: unknown): void {
    this.#holds.delete(reason);
    if (this.#holds.size === 0) this.#flow.resume();
  }
}
