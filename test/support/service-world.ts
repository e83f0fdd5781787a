import { systemClock } from '../../src/common/clock.ts';
import type { LogFields, Logger } from '../../src/common/log.ts';
import { silentTracing } from '../../src/common/tracer.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { Config, StorageConfig } from '../../src/config/model.ts';
import { operationContext } from '../../src/operations/context.ts';
import { Generation } from '../../src/service/generation.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { MemoryStore } from './memory-store.ts';

export interface LoggedEvent {
  readonly level: string;
  readonly event: string;
  readonly message: string;
  readonly fields: LogFields;
}

/** A logger that remembers. */
function recordingLogger(): Logger & { readonly logged: readonly LoggedEvent[]; events(): string[] } {
  const logged: LoggedEvent[] = [];
  const at =
    (level: string) =>
    (event: string, message: string, fields: LogFields = {}): void =>
      void logged.push({ level, event, message, fields });
  const logger = {
    debug: at('debug'),
    info: at('info'),
    warning: at('warning'),
    error: at('error'),
    success: at('success'),
    child: (): Logger => logger,
    logged,
    events: () => logged.filter(({ level }) => level !== 'debug').map(({ event }) => event),
  };
  return logger;
}

/**
 * A configuration of the environment's in effect, or the one given, over a store in memory. Its database cannot be reached,
 * unless another is named.
 */
export async function serviceWorld(
  env: Readonly<Record<string, string>> = {},
  options: {
    readonly store?: ObjectStore;
    readonly signal?: AbortSignal;
    readonly config?: Config;
    readonly openStore?: (storage: StorageConfig) => Promise<ObjectStore>;
  } = {},
) {
  const usual = { DATABASE_URL: 'postgres://u:p@127.0.0.1:1/shop', BACKUP_STORAGE: 'file:///nowhere' };
  const config = options.config ?? (await loadConfig({ env: { ...usual, ...env }, cwd: '/' }));
  const logger = recordingLogger();
  const store = options.store ?? new MemoryStore();
  const generation = new Generation(config, {
    adapters: {
      openStore: options.openStore ?? (() => Promise.resolve(store)),
      sealerOf: () => Promise.resolve(undefined),
      openTracing: () => silentTracing,
    },
    context: operationContext({
      logger,
      clock: systemClock,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    }),
    environment: {},
  });
  return { config, generation, logger, store };
}
