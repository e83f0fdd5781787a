import { asPgarkError } from '../common/errors.ts';
import type { SourceConfig } from '../config/model.ts';
import type { WalProtection } from '../observability/wal-protection.ts';
import { receiveWal } from '../operations/wal/receive.ts';
import type { Generation } from './generation.ts';
import type { Adapters } from './stores.ts';
import type { Teller } from './tell.ts';
import { walPolicyFor, walSettingsOf } from './wal.ts';
import { type KnownWal, WalWatch } from './wal-watch.ts';
import { wantedWal } from './watched-sources.ts';

/** What could not even begin (a key that is no key, a storage that cannot be opened) is tried again. */
const BEGIN_AGAIN_MS = 60_000;

export interface WalReceiversOptions {
  readonly generation: Generation;
  readonly adapters: Pick<Adapters, 'sealerOf'>;
  readonly teller: Pick<Teller, 'tell'>;
  /** Told, perhaps again and again, of a source whose newest WAL no base backup reaches since some is missing; says whether one may follow soon. */
  readonly onBaseWanted: (source: SourceConfig) => boolean;
  /** Since when sources have been wanted as they are, by their names. Default: since now. */
  readonly watchedSince?: ReadonlyMap<string, Date>;
  /** What those knew that received before. Default: nothing. */
  readonly before?: KnownBefore;
  readonly startReceiving?: typeof receiveWal;
}

/** By the sources' names, each with what was wanted of it. */
export type KnownBefore = ReadonlyMap<string, { readonly wanted: string; readonly known: KnownWal }>;

/** Receives the WAL of all sources whose configuration has a section `wal`, from the moment it is made until `stop`. */
export class WalReceivers {
  readonly #options: WalReceiversOptions;
  readonly #stop = new AbortController();
  readonly #watched: readonly { readonly source: SourceConfig; readonly watch: WalWatch }[];
  readonly #running: readonly Promise<void>[];

  constructor(options: WalReceiversOptions) {
    this.#options = options;
    const { generation, teller, onBaseWanted, watchedSince, before } = options;
    const { config, context, stores } = generation;
    const sources = [...config.databases.values()].filter(({ wal }) => wal !== undefined);
    this.#watched = sources.map((source) => {
      const earlier = before?.get(source.name);
      const watch = new WalWatch({
        config,
        source,
        context,
        openStore: (storage) => stores.open(storage),
        teller,
        stop: this.#stop.signal,
        since: watchedSince?.get(source.name),
        known: earlier?.wanted === wantedWal(source) ? earlier.known : undefined,
        onBaseWanted: () => onBaseWanted(source),
      });
      return { source, watch };
    });
    this.#running = this.#watched.map(({ source, watch }) =>
      generation.use(async () => {
        await Promise.all([this.#receive(source, watch), watch.run()]);
      }),
    );
  }

  /** How far each is. */
  states(): readonly WalProtection[] {
    return this.#watched.map(({ watch }) => watch.state());
  }

  /** For those that receive after these. */
  known(): KnownBefore {
    return new Map(
      this.#watched.map(({ source, watch }) => [source.name, { wanted: wantedWal(source), known: watch.known() }]),
    );
  }

  /** Ends in good order: what has come is archived, as far as the grace period allows. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error('pgark receives no more WAL'));
    await Promise.all(this.#running);
  }

  async #receive(source: SourceConfig, watch: WalWatch): Promise<void> {
    const { generation, adapters, startReceiving = receiveWal } = this.#options;
    const { config, context, stores } = generation;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const settings = walSettingsOf(config, source);
        const { slot, flushMs, slotBudgetBytes, synchronous } = settings;
        watch.receiver = startReceiving(
          {
            source: source.name,
            connection: source.connection,
            slot,
            stores: await Promise.all(
              settings.storages.map(async (storage) => ({
                name: storage.name,
                store: await stores.open(storage),
                policy: walPolicyFor(config, storage.name, source.name),
              })),
            ),
            sealer: await adapters.sealerOf(settings.encryption),
            keys: config.decryptionKeys,
            flushMs,
            slotBudgetBytes,
            synchronous,
            stopGraceMs: config.server.stopGraceMs,
            onAlarm: (alarm) => watch.heard(alarm),
          },
          { ...context, signal },
        );
        await watch.receiver.ended;
      } catch (error) {
        const failure = asPgarkError(error);
        const { message, hint, code } = failure;
        watch.failure = failure;
        context.logger.error('wal.not_begun', `WAL of ${source.name} is not received: ${message}; ${hint}`, {
          source: source.name,
          code,
        });
        const over = new AbortController();
        const watching = watch.unused.watch({ ...context, signal }, over.signal);
        await context.clock.sleep(BEGIN_AGAIN_MS, signal).catch(() => undefined);
        over.abort(new Error('a receiver is tried again'));
        await watching;
      }
    }
  }
}
