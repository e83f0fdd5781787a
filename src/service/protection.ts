import type { Clock } from '../common/clock.ts';
import { asPgarkError, type PgarkError } from '../common/errors.ts';
import type { Random } from '../common/random.ts';
import type { Config, SourceConfig, StorageConfig } from '../config/model.ts';
import { planBackups } from '../observability/expectations.ts';
import { buildProtectionState, type ProtectionState } from '../observability/protection-state.ts';
import { readStorageHistory, type StorageHistory } from '../observability/storage-history.ts';
import { Repository } from '../repository/repository.ts';
import type { WalProtection } from '../observability/wal-protection.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { archivedWal, newestArchive } from './archived-wal.ts';
import { probeDatabases } from './probes.ts';
import { plannedProofs } from './proof-jobs.ts';
import { readProofs } from './read-proofs.ts';
import { walSettingsOf } from './wal.ts';
import { wantedDatabases } from './wanted-databases.ts';

export interface ProtectionWorld {
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly openStore: (storage: StorageConfig) => Promise<ObjectStore>;
}

export interface Protection {
  readonly state: ProtectionState;
  /** Why servers do not answer, or storages could not be read; the state says the same in its own words. */
  readonly failures: readonly PgarkError[];
}

interface NamedFailure {
  readonly name: string;
  readonly error: PgarkError;
}

interface ReadWal {
  readonly wal: WalProtection | undefined;
  readonly failed: readonly NamedFailure[];
}

/**
 * Looks at servers and storages now, and works out how well the sources given are protected. Nothing is remembered and no
 * daemon is needed. Nobody knows here since when a source is configured: one without any backup is taken for overdue if
 * a backup of it is wanted at any time. Rejects with the signal's reason only.
 */
export async function examineProtection(
  config: Config,
  sources: readonly SourceConfig[],
  given: ProtectionWorld,
): Promise<Protection> {
  const world = { ...given, openStore: onceEach(given.openStore) };
  const { clock, signal } = world;
  const byName = new Map(sources.map((source) => [source.name, source]));
  const proofs = plannedProofs({ ...config, databases: byName });
  const used = new Set([
    ...sources.flatMap((source) => [...source.jobs.values()].flatMap((job) => job.to)),
    ...proofs.flatMap(({ source, storage }) => (byName.get(source)?.jobs.size === 0 ? [storage] : [])),
  ]);
  const storages = [...config.storages.values()].filter(({ name }) => used.has(name));
  const [probes, reads, archives] = await Promise.all([
    probeDatabases(sources, world),
    Promise.all(storages.map((storage) => readHistory(storage, world))),
    Promise.all(sources.map((source) => readWal(config, source, world))),
  ]);
  signal.throwIfAborted();
  const histories = new Map(reads.map(({ name, history }) => [name, history]));
  const failedReads = failuresByName([
    ...reads.flatMap(({ name, error }) => (error === undefined ? [] : [{ name, error }])),
    ...archives.flatMap(({ failed }) => failed),
  ]);
  const chosen = new Map(probes.map((examined) => [examined.probe.name, examined.chosen]));
  const state = buildProtectionState({
    now: clock.now(),
    watchedSince: undefined,
    timezone: config.timezone,
    plans: planBackups({ databases: byName }, (source) => wantedDatabases(source, histories, chosen.get(source.name))),
    proofs,
    histories,
    progressRatios: new Map(),
    probes: [
      ...probes.map((examined) => examined.probe),
      ...failedReads.map(({ name, error }) => ({
        kind: 'storage' as const,
        name,
        at: clock.now(),
        failure: error.message,
      })),
    ],
    wal: archives.flatMap(({ wal }) => wal ?? []),
    notificationFailures: 0,
  });
  // Of a storage that was not read nothing is known, neither that there is a backup nor that there is none.
  const backups = state.backups.filter(
    ({ source, storage }) => byName.has(source) && histories.get(storage) !== undefined,
  );
  return {
    state: { ...state, backups },
    failures: [
      ...probes.flatMap(({ error }) => (error === undefined ? [] : [error])),
      ...failedReads.map(({ error }) => error),
    ],
  };
}

async function readWal(config: Config, source: SourceConfig, world: ProtectionWorld): Promise<ReadWal> {
  if (source.wal === undefined) return { wal: undefined, failed: [] };
  const settings = walSettingsOf(config, source);
  const failed: NamedFailure[] = [];
  const found = await Promise.all(
    settings.storages.map(async (storage) => {
      try {
        return { name: storage.name, newest: await newestArchive(source, await world.openStore(storage), world) };
      } catch (error) {
        world.signal.throwIfAborted();
        failed.push({ name: storage.name, error: asPgarkError(error) });
        return { name: storage.name, newest: 'unread' as const };
      }
    }),
  );
  return { wal: archivedWal(source, settings, found, world.clock.now()), failed };
}

function onceEach(openStore: ProtectionWorld['openStore']): ProtectionWorld['openStore'] {
  const opened = new Map<string, Promise<ObjectStore>>();
  return (storage) => {
    const store = opened.get(storage.name) ?? openStore(storage);
    opened.set(storage.name, store);
    return store;
  };
}

/** One for each storage. */
function failuresByName(failures: readonly NamedFailure[]): readonly NamedFailure[] {
  return failures.filter(({ name }, index) => failures.findIndex((other) => other.name === name) === index);
}

async function readHistory(
  storage: StorageConfig,
  world: ProtectionWorld,
): Promise<{ readonly name: string; readonly history: StorageHistory | undefined; readonly error?: PgarkError }> {
  const { name } = storage;
  try {
    const store = await world.openStore(storage);
    return {
      name,
      history: await readStorageHistory(new Repository(store, world), {
        ...world,
        readProofs,
        readsVerifications: false,
      }),
    };
  } catch (error) {
    world.signal.throwIfAborted();
    return { name, history: undefined, error: asPgarkError(error) };
  }
}
