/** Work that several workers share; one that cannot go on gives back what it had, as long as another one is left. */
export class LoadQueue<Item> {
  readonly #items: Item[];
  #workers: number;
  #taken = 0;
  #woken = Promise.withResolvers<void>();

  constructor(items: readonly Item[], workers: number) {
    this.#items = [...items];
    this.#workers = workers;
  }

  /** Those that have not ended early. */
  get workers(): number {
    return this.#workers;
  }

  /**
   * The next item, which has to be settled by `done` or `giveBack`. Undefined once nothing is left and nothing can come
   * back; where others are still at work it waits for how that ends.
   */
  async take(signal: AbortSignal): Promise<Item | undefined> {
    for (;;) {
      signal.throwIfAborted();
      const item = this.#items.shift();
      if (item !== undefined) {
        this.#taken += 1;
        return item;
      }
      if (this.#taken === 0) return undefined;
      await this.#woken.promise;
    }
  }

  /** The worker is done with it, whatever came of it. */
  done(): void {
    this.#taken -= 1;
    this.#wake();
  }

  /** The worker ends, and its item is the next one for another. False if it was the last worker: nothing is changed then. */
  giveBack(item: Item): boolean {
    if (this.#workers === 1) return false;
    this.#workers -= 1;
    this.#items.unshift(item);
    this.done();
    return true;
  }

  #wake(): void {
    this.#woken.resolve();
    this.#woken = Promise.withResolvers();
  }
}
