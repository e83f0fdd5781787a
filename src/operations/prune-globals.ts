import { type GlobalsRecord, listGlobals } from '../repository/globals.ts';
import { isBackupId, kindOfId, startSecondOf } from '../repository/ids.ts';
import { IntentLog } from '../repository/intents.ts';
import { parseManifestKey } from '../repository/keys.ts';
import type { Repository } from '../repository/repository.ts';
import { type KeptBackup, unneededGlobals } from '../retention/globals.ts';
import type { CallOptions } from '../storage/object-store.ts';

export interface GlobalsPlanRequest {
  /** Default: all sources. */
  readonly source?: string | undefined;
  /** Whether any retention looks at the backups of this database. Of a source without any, nothing goes. */
  readonly isPruned: (source: string, database: string) => boolean;
  /** Ids of backups that are about to go. */
  readonly removing: ReadonlySet<string>;
}

/**
 * The globals that no backup needs any more once the others are gone, oldest first. The backups are told by their keys,
 * without reading a manifest; those that are being made count too.
 */
export async function planGlobals(
  repository: Repository,
  { source: only, isPruned, removing }: GlobalsPlanRequest,
  options: CallOptions,
): Promise<readonly GlobalsRecord[]> {
  const filter = only === undefined ? {} : { source: only };
  const { records } = await listGlobals(repository.store, filter, options);
  if (records.length === 0) return [];
  const kept: KeptBackup[] = [];
  const pruned = new Set<string>();
  for await (const { key } of repository.manifestKeys(filter, options)) {
    const found = parseManifestKey(key);
    // The files of a whole server hold what belongs to no database.
    if (found === undefined || !isBackupId(found.id) || kindOfId(found.id) === 'physical') continue;
    if (isPruned(found.source, found.database)) pruned.add(found.source);
    if (removing.has(found.id)) continue;
    // The key tells the second only: what goes with its beginning stays, and what goes with its end.
    const second = startSecondOf(found.id);
    for (const begunAt of [second, new Date(second.getTime() + 999)]) kept.push({ source: found.source, begunAt });
  }
  for await (const found of new IntentLog(repository.store).list(options)) {
    if ('intent' in found) kept.push({ source: found.intent.source, begunAt: new Date(found.intent.startedAt) });
  }
  const candidates = records
    .filter(({ source }) => pruned.has(source))
    .map((record) => ({ id: record.id, source: record.source, takenAt: new Date(record.storeTime), record }));
  return unneededGlobals(candidates, kept).map(({ record }) => record);
}
