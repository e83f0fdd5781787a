import { PgarkError } from '../common/errors.ts';
import type { Config, EncryptionConfig, SourceConfig, StorageConfig } from '../config/model.ts';
import type { WalPolicy } from '../operations/prune-archives.ts';

const SLOT_LETTERS_MAX = 63;
const DAY_MS = 86_400_000;

/** How the WAL of a source is archived: as the configuration says, and where it says nothing, as is usual. */
export interface WalSettings {
  readonly slot: string;
  /** One at least. */
  readonly storages: readonly StorageConfig[];
  readonly encryption: EncryptionConfig | undefined;
  readonly flushMs: number;
  readonly slotBudgetBytes: number | undefined;
  readonly synchronous: boolean;
}

const FLUSH_MS = 10_000;

/** Error: `config-missing` where nothing says which of several storages is meant. */
export function walSettingsOf(config: Config, source: SourceConfig): WalSettings {
  const { wal, jobs, name } = source;
  const all = [...config.storages.values()];
  const storages = wal === undefined ? all : wal.to.flatMap((each) => config.storages.get(each) ?? []);
  if (wal === undefined && storages.length > 1) {
    throw new PgarkError(
      'config-missing',
      `which of ${storages.length} storages the WAL of ${name} goes into is not said`,
      {
        hint: `write databases.${name}.wal.to in the configuration file`,
      },
    );
  }
  const [job] = jobs.values();
  return {
    slot: wal?.slot ?? defaultSlot(name),
    storages,
    encryption: wal === undefined ? job?.encryption : wal.encryption,
    flushMs: wal?.flushMs ?? FLUSH_MS,
    slotBudgetBytes: wal?.slotBudgetBytes,
    synchronous: wal?.synchronous ?? false,
  };
}

/** `pgark_` and the name, with what no slot may be called by replaced. */
function defaultSlot(name: string): string {
  return `pgark_${name.toLowerCase().replaceAll(/[^a-z0-9_]/g, '_')}`.slice(0, SLOT_LETTERS_MAX);
}

/**
 * What of a source's WAL is kept in a storage. Undefined where nothing says that any of it may go: neither `wal.keep` nor a
 * retention of its physical backups there.
 */
export function walPolicyFor(config: Config, storage: string, name: string): WalPolicy | undefined {
  const source = config.databases.get(name);
  if (source === undefined) return undefined;
  const keepMs = source.wal?.keepMs;
  const prunes = [...source.jobs.values()].some(
    ({ format, to, retention }) => format === 'physical' && to.includes(storage) && retention !== undefined,
  );
  return prunes || keepMs !== undefined ? walPolicyIn(config.storages.get(storage), keepMs) : undefined;
}

/** The same in a storage, where any of it may go. */
export function walPolicyIn(storage: StorageConfig | undefined, keepMs: number | undefined): WalPolicy {
  const lock = storage?.type === 's3' ? storage.objectLock : undefined;
  return { keepMs, lockedMs: lock && lock.days * DAY_MS };
}
