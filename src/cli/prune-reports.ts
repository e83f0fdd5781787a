import { systemClock } from '../common/clock.ts';
import type { Config } from '../config/model.ts';
import type { PruneOutcome } from '../operations/prune.ts';
import { refusalOf, walRefusalOf } from '../operations/prune-refusal.ts';
import type { BackupKind } from '../repository/ids.ts';
import type { PruneReport } from '../service/reports.ts';
import { policyFor } from './retention.ts';

const KINDS: readonly BackupKind[] = ['logical', 'physical'];

/**
 * What a prune of a storage came to, for each database that it was about: of a source with patterns those that have
 * backups there, of another one its own.
 */
export function pruneReports(
  config: Config,
  storage: string,
  { plan, refused, wal }: Pick<PruneOutcome, 'plan' | 'refused' | 'wal'>,
): readonly PruneReport[] {
  const endedAt = systemClock.now();
  const planned = Map.groupBy([...plan.keep, ...plan.remove], ({ source }) => source);
  return [...config.databases.values()].flatMap(({ name: source, connection, databases: patterns }) => {
    const rows = planned.get(source) ?? [];
    const names = patterns === undefined ? [connection.database] : new Set(rows.map(({ database }) => database));
    return [...names].flatMap((database) => {
      if (KINDS.every((kind) => policyFor(config, storage, source, database, kind) === undefined)) return [];
      const refusal = refused.find((each) => each.source === source && each.database === database);
      const error = refusal === undefined ? walRefusalOf(source, wal) : refusalOf(refusal);
      return [{ source, database, storage, endedAt, error }];
    });
  });
}
