import { formatDuration } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';
import { PgarkError } from '../common/errors.ts';
import type { SealedOutlet } from '../formats/sealed-object.ts';
import { letGo } from './let-go.ts';
import { StallWatch } from './stall-watch.ts';

/** How long what was aborted may take to let go. Adapters tidy up within less. */
const LET_GO_MS = 90_000;

type Step<T> = (signal: AbortSignal) => Promise<T>;

export interface DestinationStepsOptions {
  readonly clock: Clock;
  /** How long nothing may move, in milliseconds. */
  readonly stallMs: number;
  /** Aborted when the whole run ends early. */
  readonly signal: AbortSignal;
  /** The store's place for people. */
  readonly location: string;
}

/** The steps of a backup that are under way in one store, and what ends them early: the run, a stall, or that it is given up. */
export class DestinationSteps implements Disposable {
  readonly #clock: Clock;
  readonly #watch: StallWatch;
  readonly #givenUp = new AbortController();
  #signal: AbortSignal;
  readonly #running = new Set<Promise<unknown>>();
  /** Those that some of the steps put from. */
  readonly #outlets = new Set<SealedOutlet>();

  constructor({ clock, stallMs, signal, location }: DestinationStepsOptions) {
    this.#clock = clock;
    this.#watch = new StallWatch({
      clock,
      stallMs,
      // While it waits for bytes, or for other destinations, it is not the one that stands still.
      isDue: () => this.#running.size > this.#outlets.size || [...this.#outlets].some((outlet) => !outlet.waiting),
      stalled: () => stalledError(location, stallMs),
    });
    this.#signal = AbortSignal.any([signal, this.#watch.signal, this.#givenUp.signal]);
  }

  /** Aborted when no step may go on. */
  get signal(): AbortSignal {
    return this.#signal;
  }

  /** What ends them too from now on. */
  endBy(signal: AbortSignal): void {
    this.#signal = AbortSignal.any([this.#signal, signal]);
  }

  /** One step's work, which the signal ends. What does not even end then is left to itself, so that it stops nobody else. */
  run<T>(work: Step<T>): Promise<T> {
    return this.#run(work, this.#signal);
  }

  /** A step that nothing ends but a stall. */
  runToEnd<T>(work: Step<T>): Promise<T> {
    return this.#run(work, this.#watch.signal);
  }

  /** A step that puts what comes out of the outlet, which it leaves. */
  async runPutting<T>(outlet: SealedOutlet, work: Step<T>): Promise<T> {
    this.#outlets.add(outlet);
    try {
      return await this.run(work);
    } finally {
      this.#outlets.delete(outlet);
      outlet.leave();
    }
  }

  /** Something has moved. */
  moved(): void {
    this.#watch.moved();
  }

  /** Ends all that are under way; resolves when none is any more. */
  async giveUp(reason: PgarkError): Promise<void> {
    this.#givenUp.abort(reason);
    await Promise.allSettled(this.#running);
  }

  /** No step follows. */
  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
  }

  async #run<T>(work: Step<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    this.#watch.moved();
    const step = letGo(work(signal), { signal, clock: this.#clock, patienceMs: LET_GO_MS });
    this.#running.add(step);
    try {
      return await step;
    } finally {
      this.#running.delete(step);
    }
  }
}

function stalledError(location: string, stallMs: number): PgarkError {
  return new PgarkError(
    'stalled',
    `${location} has taken no byte and given no answer for ${formatDuration(stallMs)}: the backup into it was given up`,
    { hint: 'check that the storage answers, and the network to it, then run the backup again' },
  );
}
