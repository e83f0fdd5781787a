import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FaultyStore, type StoreCall } from './faulty-store.ts';

/** Turns of the event loop in which whoever is at work has made all calls that wait for no answer. */
const TURNS = 20;

/** A store that is so far away that it answers in rounds: to all that has been asked since the last one. What it can do is known. */
export class DistantStore {
  readonly store: FaultyStore;
  /** What was asked before each answer, as `METHOD KEY`. */
  readonly rounds: string[][] = [];
  #waiting: (() => void)[] = [];

  constructor(store: ObjectStore) {
    this.store = new FaultyStore(store, { before: (call) => this.#ask(call) });
  }

  /** From 0; undefined where nothing of this kind was asked. */
  roundOf(asked: RegExp): number | undefined {
    const round = this.rounds.findIndex((calls) => calls.some((call) => asked.test(call)));
    return round === -1 ? undefined : round;
  }

  #ask({ method, key }: StoreCall): Promise<void> {
    if (method === 'probe') return Promise.resolve();
    if (this.#waiting.length === 0) {
      this.rounds.push([]);
      void this.#answer();
    }
    this.rounds.at(-1)?.push(`${method} ${key}`);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async #answer(): Promise<void> {
    for (let turn = 0; turn < TURNS; turn += 1) await nextTurn();
    const answered = this.#waiting;
    this.#waiting = [];
    for (const resolve of answered) resolve();
  }
}
