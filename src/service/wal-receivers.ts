import { asPgarkError } from '../common/errors.ts';
import type { SourceConfig } from '../config/model.ts';
import type { WalProtection } from '../observability/protection-state.ts';
import { recoveryTimelines } from '../operations/wal/recovery-window.ts';
import { receiveWal, type WalReceiver } from '../operations/wal/receive.ts';
import { type WalAlarm, walLagMs, type WalReceiverState } from '../operations/wal/receive-request.ts';
import { dateOf } from '../postgres/wal/server-time.ts';
import type { Generation } from './generation.ts';
import type { Adapters } from './stores.ts';
import type { Teller } from './tell.ts';
import { walSettingsOf } from './wal.ts';

/** What could not even begin (a key that is no key, a storage that cannot be opened) is tried again. */
const BEGIN_AGAIN_MS = 60_000;
/** What the archives hold is looked at anew so often: it takes a listing. */
const LOOK_EVERY_MS = 15 * 60_000;

interface Known {
  receiver: WalReceiver | undefined;
  earliest: Date | undefined;
  gaps: number | undefined;
}

/** Receives the WAL of all sources whose configuration has a section `wal`, from the moment it is made until `stop`. */
export class WalReceivers {
  readonly #generation: Generation;
  readonly #adapters: Pick<Adapters, 'sealerOf'>;
  readonly #teller: Pick<Teller, 'tell'>;
  readonly #stop = new AbortController();
  readonly #known = new Map<string, Known>();
  readonly #running: readonly Promise<void>[];

  constructor(generation: Generation, adapters: Pick<Adapters, 'sealerOf'>, teller: Pick<Teller, 'tell'>) {
    this.#generation = generation;
    this.#adapters = adapters;
    this.#teller = teller;
    const sources = [...generation.config.databases.values()].filter(({ wal }) => wal !== undefined);
    this.#running = sources.map((source) => {
      const known: Known = { receiver: undefined, earliest: undefined, gaps: undefined };
      this.#known.set(source.name, known);
      return generation.use(async () => {
        await Promise.all([this.#receive(source, known), this.#lookNowAndThen(source, known)]);
      });
    });
  }

  /** How far each is, for metrics. */
  states(): readonly WalProtection[] {
    const now = this.#generation.context.clock.now();
    return [...this.#known].map(([source, { receiver, earliest, gaps }]) => {
      const state = receiver?.state();
      return {
        source,
        earliest,
        latest: state?.coveredUntil === undefined ? undefined : dateOf(state.coveredUntil),
        lagMs: state && walLagMs(state, now),
        gaps: gapsOf(gaps, state),
        slotRetainedBytes: state?.slot?.retainedBytes,
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
        known.receiver = receiveWal(
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
            onAlarm: (alarm) => this.#tell(source, alarm),
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
        await context.clock.sleep(BEGIN_AGAIN_MS, signal).catch(() => undefined);
      }
    }
  }

  /** Tells of what is lost; what passes is in the log, the metrics and what is overdue. */
  #tell(source: SourceConfig, alarm: WalAlarm): void {
    if (alarm.kind !== 'gap' && alarm.kind !== 'slot-dropped') return;
    const { config, context } = this.#generation;
    const { code, message, hint } = alarm.error;
    const event = {
      event: 'wal_gap',
      at: context.clock.now(),
      source: source.name,
      error: { code, message, hint },
    } as const;
    // Nothing there rejects.
    void this.#teller.tell(config, [event]);
  }

  async #lookNowAndThen(source: SourceConfig, known: Known): Promise<void> {
    const { config, context, stores } = this.#generation;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const [storage] = walSettingsOf(config, source).storages;
        if (storage === undefined) return;
        const request = { store: await stores.open(storage), source: source.name };
        const [newest] = await recoveryTimelines(request, { ...context, signal });
        known.earliest = newest?.windows.at(-1)?.earliest;
        known.gaps = newest === undefined ? 0 : newest.wal.gaps.length;
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
      await context.clock.sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
    }
  }
}

/** Those that were found, and those that were met since: some of these may be found by now, too. */
function gapsOf(found: number | undefined, state: WalReceiverState | undefined): number | undefined {
  if (found === undefined && state === undefined) return undefined;
  return Math.max(found ?? 0, state?.gaps ?? 0);
}
