import { asPgarkError } from '../common/errors.ts';
import type { SourceConfig } from '../config/model.ts';
import type { NotificationEvent } from '../notify/message.ts';
import type { WalProtection } from '../observability/protection-state.ts';
import { judgeGaps, type RecoveryWindow, recoveryTimelines, windowStart } from '../operations/wal/recovery-window.ts';
import { receiveWal, type WalReceiver } from '../operations/wal/receive.ts';
import type { WalStatusRequest } from '../operations/wal/status.ts';
import { UnusedSlot } from '../operations/wal/unused-slot.ts';
import { type WalAlarm, walLagBytes, walLagMs, type WalReceiverState } from '../operations/wal/receive-request.ts';
import { parseLsn } from '../postgres/wal/lsn.ts';
import { dateOf } from '../postgres/wal/server-time.ts';
import type { Generation } from './generation.ts';
import type { Adapters } from './stores.ts';
import type { Teller } from './tell.ts';
import { walSettingsOf } from './wal.ts';

/** What could not even begin (a key that is no key, a storage that cannot be opened) is tried again. */
const BEGIN_AGAIN_MS = 60_000;
/** What the archives hold is looked at anew so often: it takes a listing. */
const LOOK_EVERY_MS = 15 * 60_000;
/** And so often while WAL may be missing: until a base backup follows, nothing later can be recovered. */
const LOOK_SOON_MS = 10_000;

interface Known {
  receiver: WalReceiver | undefined;
  /** Its slot, while there is no receiver. */
  readonly unused: UnusedSlot;
  earliest: Date | undefined;
  gaps: number | undefined;
  storedBytes: number | undefined;
  /** On timelines, as they were found last. */
  warnings: readonly string[];
  /** WAL may be missing since the archive was looked through. */
  isCut: boolean;
  /** Since then it was looked through once, and nothing was missing. */
  seemsWhole: boolean;
  /** Ends the pause before the archive is looked through again. */
  look: AbortController;
  /** Resolves when all was told that there was to tell, whether it arrived or not. */
  told: Promise<unknown>;
}

/** Receives the WAL of all sources whose configuration has a section `wal`, from the moment it is made until `stop`. */
export class WalReceivers {
  readonly #generation: Generation;
  readonly #adapters: Pick<Adapters, 'sealerOf'>;
  readonly #teller: Pick<Teller, 'tell'>;
  readonly #stop = new AbortController();
  readonly #known = new Map<string, Known>();
  readonly #onBaseWanted: (source: SourceConfig) => void;
  readonly #startReceiving: typeof receiveWal;
  readonly #running: readonly Promise<void>[];

  /** `onBaseWanted` is told, perhaps again and again, of a source whose newest WAL no base backup reaches since some is missing. */
  constructor(
    generation: Generation,
    adapters: Pick<Adapters, 'sealerOf'>,
    teller: Pick<Teller, 'tell'>,
    onBaseWanted: (source: SourceConfig) => void,
    startReceiving = receiveWal,
  ) {
    this.#generation = generation;
    this.#onBaseWanted = onBaseWanted;
    this.#startReceiving = startReceiving;
    this.#adapters = adapters;
    this.#teller = teller;
    const sources = [...generation.config.databases.values()].filter(({ wal }) => wal !== undefined);
    this.#running = sources.map((source) => {
      const { slot, slotBudgetBytes } = walSettingsOf(generation.config, source);
      const known: Known = {
        receiver: undefined,
        unused: new UnusedSlot({
          source: source.name,
          connection: source.connection,
          slot,
          slotBudgetBytes,
          onAlarm: (alarm) => this.#heard(source, alarm, known),
        }),
        earliest: undefined,
        gaps: undefined,
        storedBytes: undefined,
        warnings: [],
        isCut: false,
        seemsWhole: false,
        look: new AbortController(),
        told: Promise.resolve(),
      };
      this.#known.set(source.name, known);
      return generation.use(async () => {
        await Promise.all([this.#receive(source, known), this.#lookNowAndThen(source, known)]);
      });
    });
  }

  /** How far each is, for metrics. */
  states(): readonly WalProtection[] {
    const now = this.#generation.context.clock.now();
    return [...this.#known].map(([source, { receiver, unused, earliest, gaps, storedBytes }]) => {
      const state = receiver?.state();
      const slot = state === undefined ? unused.status : state.slot;
      return {
        source,
        earliest,
        latest: state?.coveredUntil === undefined ? undefined : dateOf(state.coveredUntil),
        lagMs: state && walLagMs(state, now),
        lagBytes: state && walLagBytes(state),
        storedBytes,
        gaps: gapsOf(gaps, state),
        slotRetainedBytes: slot?.retainedBytes,
      };
    });
  }

  /** Ends in good order: what has come is archived, as far as the grace period allows. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('pgark receives no more WAL'));
    await Promise.all(this.#running);
  }

  async #receive(source: SourceConfig, known: Known): Promise<void> {
    const { config, context, stores } = this.#generation;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const settings = walSettingsOf(config, source);
        const { slot, flushMs, slotBudgetBytes, synchronous } = settings;
        known.receiver = this.#startReceiving(
          {
            source: source.name,
            connection: source.connection,
            slot,
            stores: await Promise.all(
              settings.storages.map(async (storage) => ({ name: storage.name, store: await stores.open(storage) })),
            ),
            sealer: await this.#adapters.sealerOf(settings.encryption),
            keys: config.decryptionKeys,
            flushMs,
            slotBudgetBytes,
            synchronous,
            stopGraceMs: config.server.stopGraceMs,
            onAlarm: (alarm) => this.#heard(source, alarm, known),
          },
          { ...context, signal },
        );
        await known.receiver.ended;
      } catch (error) {
        const { message, hint, code } = asPgarkError(error);
        context.logger.error('wal.not_begun', `WAL of ${source.name} is not received: ${message}; ${hint}`, {
          source: source.name,
          code,
        });
        const over = new AbortController();
        const watching = known.unused.watch({ ...context, signal }, over.signal);
        await context.clock.sleep(BEGIN_AGAIN_MS, signal).catch(() => undefined);
        over.abort(new Error('a receiver is tried again'));
        await watching;
      }
    }
  }

  /** Tells of what is lost; what passes is in the log, the metrics and what is overdue. */
  #heard(source: SourceConfig, alarm: WalAlarm, known: Known): void {
    if (alarm.kind !== 'gap' && alarm.kind !== 'slot-dropped') return;
    known.isCut = true;
    known.seemsWhole = false;
    known.look.abort();
    const { code, message, hint } = alarm.error;
    const at = this.#generation.context.clock.now();
    this.#tell(known, { event: 'wal_gap', at, source: source.name, error: { code, message, hint } });
  }

  /** In order, however long it takes: an end that is told before the problem ends nothing. */
  #tell(known: Known, event: NotificationEvent): void {
    const { config } = this.#generation;
    // Nothing there rejects.
    known.told = known.told.then(() => this.#teller.tell(config, [event]));
  }

  async #lookNowAndThen(source: SourceConfig, known: Known): Promise<void> {
    const { config, context, stores } = this.#generation;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const [storage] = walSettingsOf(config, source).storages;
        if (storage === undefined) return;
        const request = {
          store: await stores.open(storage),
          source: source.name,
          received: streamedBy(known.receiver?.state()),
        };
        const [newest] = await recoveryTimelines(request, { ...context, signal });
        known.earliest = newest?.windows.at(-1)?.earliest;
        known.gaps = newest === undefined ? 0 : judgeGaps(newest, this.#windowStart(source)).missing.length;
        known.storedBytes = newest?.wal.storedBytes;
        this.#warn(source, known, newest?.wal.warnings ?? []);
        this.#judge(source, known, newest?.windows ?? []);
      } catch (error) {
        if (signal.aborted) return;
        const { message } = asPgarkError(error);
        context.logger.warning(
          'wal.archive_unread',
          `the WAL of ${source.name} could not be looked through: ${message}`,
          {
            source: source.name,
          },
        );
      }
      known.look = new AbortController();
      const woken = AbortSignal.any([signal, known.look.signal]);
      await context.clock.sleep(known.isCut ? LOOK_SOON_MS : LOOK_EVERY_MS, woken).catch(() => undefined);
    }
  }

  /** Once, while it is so. */
  #warn(source: SourceConfig, known: Known, warnings: readonly string[]): void {
    const { logger } = this.#generation.context;
    for (const words of warnings) {
      if (!known.warnings.includes(words)) logger.warning('wal.timelines', words, { source: source.name });
    }
    known.warnings = warnings;
  }

  /** Once WAL is archived again, behind the gap: whether it needs a base backup, or has one. */
  #judge(source: SourceConfig, known: Known, windows: readonly RecoveryWindow[]): void {
    const state = known.receiver?.state();
    if (state?.phase !== 'streaming' || state.failingStores.size > 0) return;
    const [newest, before] = windows.toReversed();
    // Nothing of what follows is in the archive yet.
    if (newest === undefined || parseLsn(newest.to) < (state.archived ?? 0n)) return;
    if (newest.bases.length === 0 && before !== undefined) {
      this.#onBaseWanted(source);
      return;
    }
    // A receiver that goes on where it had stopped may not have heard yet that the server has no such WAL any more.
    const isSure = !known.isCut || known.seemsWhole;
    known.seemsWhole = true;
    if (!isSure) return;
    // Nothing was missing, or what followed has its base backup.
    known.isCut = false;
    if (newest.bases.length > 0) this.#tellWhole(source, known);
  }

  /** With each look: an earlier process may have told of the gap, and what could not be delivered is owed. */
  #tellWhole({ name }: SourceConfig, known: Known): void {
    const at = this.#generation.context.clock.now();
    this.#tell(known, { event: 'resolved', of: 'wal_gap', at, source: name });
  }

  /** Undefined: recovery has to reach as far back as it can. */
  #windowStart({ wal }: SourceConfig): Date | undefined {
    return windowStart(wal?.keepMs, this.#generation.context.clock.now());
  }
}

/** Undefined while nothing is streamed: what was streamed before a failover is another timeline. */
function streamedBy(state: WalReceiverState | undefined): WalStatusRequest['received'] {
  const { phase, systemIdentifier, timeline } = state ?? {};
  if (phase !== 'streaming' || systemIdentifier === undefined || timeline === undefined) return undefined;
  return { systemIdentifier, timeline };
}

/** Those that were found, and those that were met since: some of these may be found by now, too. */
function gapsOf(found: number | undefined, state: WalReceiverState | undefined): number | undefined {
  if (found === undefined && state === undefined) return undefined;
  return Math.max(found ?? 0, state?.gaps ?? 0);
}
