import { formatBytes } from '../../common/bytes.ts';
import { asPgarkError, messageOf, PgarkError } from '../../common/errors.ts';
import { alarm, type SlotWorld } from './receiver-world.ts';
import { ServerMonitor, type SlotStatus } from './server-monitor.ts';
import { judgeSlot, type NearLimit } from './slot-guard.ts';
import { SlotMemory } from './slot-memory.ts';

const LOOK_EVERY_MS = 15_000;

export interface SlotUse {
  /** Whether anything is received over the slot, so that what it holds back may become less. */
  readonly isUsed: () => boolean;
  /** Ends the stream that uses the slot, at once. */
  readonly letGo: (reason: PgarkError) => void;
}

/**
 * Watches what the slot holds back on the server. Beyond the budget, and growing, it is dropped: a database must not stop
 * because its backup did. It is looked at when a connection begins, and every so often while it is used. That goes on over a
 * connection of its own where that of the session is gone: a server may have been restarted while what came before is not
 * stored yet.
 */
export class SlotWatch {
  readonly #world: SlotWorld;
  #monitor: ServerMonitor;
  /** The monitor is our own, to be closed. */
  #isOwn = false;
  readonly #use: SlotUse;
  readonly #ended = new AbortController();
  #pause = new AbortController();
  #isNewlyUsed = false;
  readonly #looked = Promise.withResolvers<void>();
  readonly #watching: Promise<void>;
  /** The server has not answered yet where the slot stands. */
  #isAsking = false;

  constructor(world: SlotWorld, monitor: ServerMonitor, use: SlotUse) {
    this.#world = world;
    this.#monitor = monitor;
    this.#use = use;
    const { state } = world;
    state.slotMemory.begin(state.archived);
    this.#watching = this.#watch();
  }

  /** Something is received over the slot from now on: it has the time until it is looked at a second time. */
  used(): void {
    this.#isNewlyUsed = true;
    this.#pause.abort();
  }

  /** Resolves when it was looked at for the first time, and dropped if it had to be: then it may be used. */
  get looked(): Promise<void> {
    return this.#looked.promise;
  }

  /** Whoever is asked in vain is not waited for; a slot that is being dropped is. */
  async end(): Promise<void> {
    this.#ended.abort(new Error('the connection ends'));
    if (this.#isAsking) this.#monitor.destroy();
    await this.#watching;
    if (this.#isOwn) await this.#monitor.close();
  }

  async #watch(): Promise<void> {
    const { context } = this.#world;
    const { signal } = this.#ended;
    for (let isFirst = true; !signal.aborted; isFirst = false) {
      try {
        if (isFirst || this.#use.isUsed()) {
          if (!this.#monitor.isAlive) await this.#open();
          await this.#look();
        }
      } catch (error) {
        // A server that is away is said to be by the session.
        if (!signal.aborted && this.#monitor.isAlive) {
          context.logger.warning('wal.slot_unread', `the slot could not be looked at: ${messageOf(error)}`);
        }
      }
      this.#looked.resolve();
      this.#pause = new AbortController();
      await context.clock.sleep(LOOK_EVERY_MS, AbortSignal.any([signal, this.#pause.signal])).catch(() => undefined);
    }
  }

  async #open(): Promise<void> {
    const { request, stop } = this.#world;
    this.#monitor = await ServerMonitor.open(request, AbortSignal.any([stop, this.#ended.signal]));
    this.#isOwn = true;
  }

  async #look(): Promise<void> {
    const { request, state } = this.#world;
    const { slotMemory: memory } = state;
    const status = await this.#ask(request.slot);
    state.slot = status;
    if (status === undefined) return;
    const judgement = judgeSlot(status, request.slotBudgetBytes);
    // One that is being worked off is given the time.
    const grows = !this.#isNewlyUsed && (status.retainedBytes ?? 0) >= memory.heldBackBytes;
    this.#isNewlyUsed = false;
    memory.heldBackBytes = status.retainedBytes ?? Infinity;
    if (judgement.kind !== 'over') memory.kept = undefined;
    if (judgement.kind === 'over' && grows) await this.#drop(judgement);
    else if (judgement.kind === 'alarm' || judgement.kind === 'over') this.#alarm(judgement);
    else if (memory.isAlarmed && judgement.kind === 'fine') {
      memory.isAlarmed = false;
      alarm(this.#world, { kind: 'over', of: 'slot' });
    }
  }

  async #ask(slot: string): Promise<SlotStatus | undefined> {
    this.#isAsking = true;
    try {
      return await this.#monitor.slot(slot);
    } finally {
      this.#isAsking = false;
    }
  }

  #alarm({ retainedBytes, limitBytes }: NearLimit): void {
    const { request, state } = this.#world;
    if (state.slotMemory.isAlarmed) return;
    state.slotMemory.isAlarmed = true;
    const { source, slot } = request;
    const limit = limitBytes === Infinity ? 'all that it may' : formatBytes(limitBytes);
    alarm(this.#world, {
      kind: 'slot',
      error: new PgarkError(
        'wal-slot',
        `the replication slot ${slot} of ${source} holds back ${formatBytes(retainedBytes)} of WAL on the server, of ${limit} at the most`,
      ),
    });
  }

  /** Whoever uses it has to let go first; that it is gone is said when it is. What fails is tried again with the next look. */
  async #drop({ retainedBytes, limitBytes }: NearLimit): Promise<void> {
    const { source, slot } = this.#world.request;
    const [retained, limit] = [formatBytes(retainedBytes), formatBytes(limitBytes)];
    const what = (verb: string): string =>
      `the replication slot ${slot} of ${source} ${verb} back ${retained} of WAL on the server, more than the ${limit} allowed`;
    this.#use.letGo(new PgarkError('wal-slot', `${what('holds')}, and has to go`));
    try {
      await this.#monitor.dropSlot(slot);
    } catch (error) {
      // Told to stop, somebody may have hung up.
      if (this.#world.stop.aborted && !this.#monitor.isAlive) throw error;
      this.#world.state.slotMemory.isAlarmed = true;
      const { message } = asPgarkError(error);
      const kept = new PgarkError('wal-slot-kept', `${what('holds')}, and could not be dropped: ${message}`, {
        cause: error,
      });
      this.#world.state.slotMemory.kept = kept;
      alarm(this.#world, { kind: 'slot', error: kept });
      return;
    }
    this.#world.state.slot = undefined;
    this.#world.state.slotMemory = new SlotMemory();
    const error = new PgarkError('wal-slot', `${what('held')}, and was dropped`, {
      hint: 'mend the storage; then make a new base backup, since WAL may be missing in between',
    });
    alarm(this.#world, { kind: 'slot-dropped', error });
  }
}
