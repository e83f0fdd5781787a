import { aborted } from '../../common/aborted.ts';
import { asPgarkError, type PgarkError } from '../../common/errors.ts';
import type { OperationContext } from '../context.ts';
import type { SlotRequest, SlotState } from './receiver-world.ts';
import { ServerMonitor, type SlotStatus } from './server-monitor.ts';
import { SlotMemory } from './slot-memory.ts';
import { SlotWatch } from './slot-watch.ts';

/**
 * Looks after a slot while nothing can be received over it, for want of a key or a storage: the server goes on keeping WAL for
 * it, and its disk must not fill because nobody looks.
 */
export class UnusedSlot {
  readonly #request: SlotRequest;
  readonly #state: SlotState = { archived: undefined, slot: undefined, slotMemory: new SlotMemory() };

  constructor(request: SlotRequest) {
    this.#request = request;
  }

  /** As it was when it was looked at last. Undefined: there is none, or it was not looked at yet. */
  get status(): SlotStatus | undefined {
    return this.#state.slot;
  }

  get kept(): PgarkError | undefined {
    return this.#state.slotMemory.kept;
  }

  /** Watches it until `over` is aborted, or at once no more when told to stop. What the server does not let it see is logged. */
  async watch(context: OperationContext, over: AbortSignal): Promise<void> {
    const { signal: stop, logger } = context;
    const { source, slot } = this.#request;
    const until = AbortSignal.any([stop, over]);
    try {
      const monitor = await ServerMonitor.open(this.#request, until);
      const world = { request: this.#request, context, state: this.#state, stop };
      const watch = new SlotWatch(world, monitor, { isUsed: () => true, letGo: () => undefined });
      await aborted(until);
      if (stop.aborted) monitor.destroy();
      await watch.end();
      await monitor.close();
    } catch (error) {
      if (until.aborted) return;
      const { message, hint, code } = asPgarkError(error);
      const what = `nobody watches what the slot ${slot} of ${source} holds back on the server`;
      logger.error('wal.slot_unwatched', `${what}: ${message}; ${hint}`, { source, code });
      await aborted(until);
    }
  }
}
