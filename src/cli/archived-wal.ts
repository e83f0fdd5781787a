import { isPgarkError, type PgarkError } from '../common/errors.ts';
import type { Config, SourceConfig, StorageConfig } from '../config/model.ts';
import {
  type JudgedGaps,
  judgeGaps,
  type RecoveryTimeline,
  recoveryTimelines,
  windowStart,
} from '../operations/wal/recovery-window.ts';
import { walSettingsOf } from '../service/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { attempt, type StorageFailure } from './attempt.ts';
import { chooseSources, chooseStorage, type CommandRun } from './command.ts';

/** What is archived of one server of a source in one storage. */
export interface FoundWal {
  readonly source: string;
  readonly storage: string;
  readonly timeline: RecoveryTimeline;
  readonly gaps: JudgedGaps;
  /** Storages that could not be read, into which its WAL goes too: what is missing here may be there. */
  readonly mayBeIn: readonly string[];
}

export interface WalFailure extends StorageFailure {
  readonly source: string;
}

interface WalLook {
  readonly found: readonly FoundWal[];
  readonly failures: readonly WalFailure[];
  /** How many were to be looked in. */
  readonly storageCount: number;
  /** For one source in one of them at least. */
  readonly isAnyRead: boolean;
}

/**
 * What is archived of the sources that are named (all without names), in the storage that is named, or in all that the WAL of each
 * goes into. One that fails keeps no other from being looked in.
 */
export async function lookAtWal(
  run: CommandRun,
  config: Config,
  names: readonly string[],
  storageName: string | undefined,
): Promise<WalLook> {
  const context = run.context(config);
  const since = ({ wal }: SourceConfig): Date | undefined => windowStart(wal?.keepMs, context.clock.now());
  const stores = new Map<string, Promise<ObjectStore>>();
  const unreachable = new Map<string, PgarkError>();
  const storages = new Set<string>();
  const found: FoundWal[] = [];
  const failures: WalFailure[] = [];
  let isAnyRead = false;
  for (const source of chooseSources(config, names)) {
    const timelines: Omit<FoundWal, 'mayBeIn'>[] = [];
    const mayBeIn: string[] = [];
    for (const storage of storagesToReadFrom(config, source, storageName)) {
      storages.add(storage.name);
      const tried = await attempt(storage.name, run, async () => {
        // What was waited for in vain once is not waited for again.
        const away = unreachable.get(storage.name);
        if (away !== undefined) throw away;
        const opening = stores.get(storage.name) ?? run.open(storage, config);
        stores.set(storage.name, opening);
        return recoveryTimelines({ store: await opening, source: source.name }, context);
      });
      if ('error' in tried) {
        if (isPgarkError(tried.error, 'store-unreachable')) unreachable.set(storage.name, tried.error);
        failures.push({ source: source.name, ...tried });
        mayBeIn.push(storage.name);
      } else {
        isAnyRead = true;
        for (const timeline of tried.value) {
          const gaps = judgeGaps(timeline, since(source));
          timelines.push({ source: source.name, storage: storage.name, timeline, gaps });
        }
      }
    }
    found.push(...timelines.map((each) => ({ ...each, mayBeIn })));
  }
  return { found, failures, storageCount: storages.size, isAnyRead };
}

/** Where the WAL of a source lies: the storage that is named, those of its section wal, or, without one, any of all. */
export function storagesToReadFrom(
  config: Config,
  source: SourceConfig,
  name: string | undefined,
): readonly StorageConfig[] {
  if (name !== undefined) return [chooseStorage(config, name)];
  return source.wal === undefined ? [...config.storages.values()] : walSettingsOf(config, source).storages;
}

/** What is missing where a recovery would need it, as `--output json` shows it. */
export function gapsJson({ gaps, mayBeIn }: Pick<FoundWal, 'gaps' | 'mayBeIn'>) {
  return gaps.missing.map((gap) => ({ ...gap, ...(mayBeIn.length > 0 && { may_be_in: mayBeIn }) }));
}
