import type { Clock } from '../../common/clock.ts';
import type { PgarkError } from '../../common/errors.ts';
import type { ServerPosition } from '../../postgres/replication/caught-up.ts';
import type { SegmentStream } from '../../postgres/replication/segment-stream.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import { Coverage } from './coverage.ts';
import type { FailingStore, WalReceiverState } from './receive-request.ts';
import type { SlotStatus } from './server-monitor.ts';
import { SlotMemory } from './slot-memory.ts';

/** What a receiver knows, as its parts find it out. */
export class ReceiverState {
  readonly #clock: Clock;
  #coverage = new Coverage();
  phase: WalReceiverState['phase'] = 'connecting';
  systemIdentifier: string | undefined;
  timeline: number | undefined;
  received: Lsn | undefined;
  #archived: Lsn | undefined;
  #server: ServerPosition | undefined;
  #heardAt: Date | undefined;
  gaps = 0;
  /** What is archived is known to be of the very server that is connected to, as it is now. */
  isProven = false;
  slot: SlotStatus | undefined;
  slotMemory = new SlotMemory();
  failure: PgarkError | undefined;
  /** When the connection first received anything, by the monotonic clock. Undefined: it has not. */
  streamsSinceMs: number | undefined;
  /** Whether there was an alarm of it. */
  isServerAway = false;
  readonly failingStores = new Map<string, FailingStore>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * A connection begins. What a server before said and had says nothing of this one; and one of the same identifier may be another
   * one by now, or the same one put back to an earlier state.
   */
  begin(systemIdentifier: string): void {
    this.isProven = false;
    if (this.systemIdentifier !== systemIdentifier) {
      this.#coverage = new Coverage();
      this.#archived = undefined;
      this.#server = undefined;
    }
    this.systemIdentifier = systemIdentifier;
  }

  get archived(): Lsn | undefined {
    return this.#archived;
  }

  isArchived(lsn: Lsn): void {
    this.#archived = lsn;
    this.#coverage.archived(lsn);
  }

  heard({ server, committed }: Pick<SegmentStream, 'server' | 'committed'>): void {
    if (committed !== undefined) this.#coverage.told(committed);
    if (server === undefined || server === this.#server) return;
    this.#server = server;
    this.#heardAt = this.#clock.now();
  }

  storeFails(storage: string, failure: PgarkError, isLeft: boolean): void {
    const { since = this.#clock.now(), left } = this.failingStores.get(storage) ?? {};
    const leftNow = isLeft ? { coveredUntil: this.#coverage.until } : undefined;
    this.failingStores.set(storage, { failure, since, left: left ?? leftNow });
  }

  snapshot(): WalReceiverState {
    const { phase, systemIdentifier, timeline, received, archived, gaps, slot, failure } = this;
    return {
      phase,
      systemIdentifier,
      timeline,
      received,
      archived,
      server: this.#server,
      heardAt: this.#heardAt,
      coveredUntil: this.#coverage.until,
      gaps,
      slot,
      slotKept: this.slotMemory.kept,
      failure,
      failingStores: new Map(this.failingStores),
    };
  }
}
