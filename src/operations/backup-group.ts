import { assert, type PgarkError } from '../common/errors.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { RunResult } from '../runs/record-keeper.ts';
import {
  type DestinationOutcome,
  DestinationRun,
  type BackupDestination,
  type DestinationWorld,
} from './backup-destination.ts';

type GroupWorld = Omit<DestinationWorld, 'signal'>;

/** How the checks of a destination went. */
export interface CheckedDestination {
  readonly name: string;
  readonly location: string;
  readonly error?: PgarkError;
}

interface Member {
  readonly destination: DestinationRun;
  outcome: DestinationOutcome | undefined;
}

/**
 * The destinations of one backup. One that fails in a step is out of the group: it tidies up after itself while the others
 * go on. The group fails when none is left, with the first error there was.
 */
export class DestinationGroup {
  readonly #world: GroupWorld;
  readonly #members: readonly Member[];
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #onOutcome: (outcome: DestinationOutcome) => void;
  readonly #settling: Promise<void>[] = [];
  #firstError: PgarkError | undefined;

  constructor(
    destinations: readonly BackupDestination[],
    world: GroupWorld,
    onOutcome: (outcome: DestinationOutcome) => void = () => {},
  ) {
    assert(destinations.length > 0, 'a backup has at least one destination');
    this.#world = world;
    this.#onOutcome = onOutcome;
    const signal = AbortSignal.any([world.context.signal, this.#stop.signal]);
    this.#signal = signal;
    this.#members = destinations.map((each) => ({
      destination: new DestinationRun(each, { ...world, signal }),
      outcome: undefined,
    }));
  }

  /** Those that have not failed. */
  get alive(): readonly DestinationRun[] {
    return this.#members.flatMap(({ destination, outcome }) => (outcome === undefined ? [destination] : []));
  }

  /** What has come of those that are done, in the order of the request. */
  get outcomes(): readonly DestinationOutcome[] {
    return this.#members.flatMap(({ outcome }) => outcome ?? []);
  }

  /** How the checks went, for those that are done and those that are not. */
  get checked(): readonly CheckedDestination[] {
    return this.#members.map(({ destination: { name, store }, outcome }) => {
      const { location } = store;
      return outcome?.error === undefined ? { name, location } : { name, location, error: outcome.error };
    });
  }

  /** Whether the request has no more than one. */
  get isSingle(): boolean {
    return this.#members.length === 1;
  }

  /** Aborted when the whole backup is to end. */
  get signal(): AbortSignal {
    return this.#signal;
  }

  /** Takes all that are left one step on, at the same time. Rejects if that leaves none. */
  async each(step: (destination: DestinationRun) => Promise<void>): Promise<void> {
    await Promise.all(this.alive.map((destination) => this.#attempt(destination, step)));
    this.#throwIfNoneIsLeft();
  }

  /** The backup is committed here. */
  succeed(destination: DestinationRun, manifest: Manifest, result: RunResult): void {
    const { name, store } = destination;
    this.#settle(destination, { name, location: store.location, manifest }, () => destination.conclude(result));
  }

  /** Ends everything that is under way, for a reason that concerns all. */
  stop(error: PgarkError): void {
    this.#firstError ??= error;
    this.#stop.abort(error);
  }

  /** Fails all that are left with an error that concerns all. */
  failAll(error: PgarkError): void {
    this.stop(error);
    for (const destination of this.alive) this.#fail(destination, error);
  }

  /** Resolves when those that are done have tidied up. */
  async settled(): Promise<void> {
    await Promise.all(this.#settling);
  }

  /** No step follows. */
  async close(): Promise<void> {
    await this.settled();
    for (const destination of this.alive) destination.close();
  }

  async #attempt(destination: DestinationRun, step: (destination: DestinationRun) => Promise<void>): Promise<void> {
    try {
      await step(destination);
    } catch (thrown) {
      this.#fail(destination, destination.errorOf(thrown));
    }
  }

  #fail(destination: DestinationRun, error: PgarkError): void {
    const { name, store } = destination;
    const { run } = this.#world;
    this.#firstError ??= error;
    const outcome = { name, location: store.location, error };
    if (!this.#settle(destination, outcome, () => destination.giveUp(error))) return;
    // Of a single one, the run's own failure says it all.
    if (this.isSingle) return;
    const failed = this.outcomes.filter((each) => each.error !== undefined).map((each) => each.name);
    run.span.note({ 'pgark.failed_storages': failed });
    run.logger.warning('destination.failed', `no backup in ${name} (${store.location}): ${error.message}`, {
      storage: name,
      code: error.code,
      hint: error.hint,
    });
  }

  /** What is settled once stays so: of several steps under way at the same time, more than one may fail. */
  #settle(destination: DestinationRun, outcome: DestinationOutcome, tidyUp: () => Promise<void>): boolean {
    const member = this.#members.find((each) => each.destination === destination);
    if (member === undefined || member.outcome !== undefined) return false;
    member.outcome = outcome;
    this.#settling.push(tidyUp());
    this.#onOutcome(outcome);
    return true;
  }

  #throwIfNoneIsLeft(): void {
    const left = this.#members.some(({ outcome }) => outcome?.error === undefined);
    if (!left && this.#firstError !== undefined) throw this.#firstError;
  }
}
