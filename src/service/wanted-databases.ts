import type { SourceConfig } from '../config/model.ts';
import { ANY_DATABASE } from '../observability/expectations.ts';
import type { StorageHistory } from '../observability/storage-history.ts';
import { type DatabaseChoice, selectNames } from './database-patterns.ts';

/**
 * The databases that a source is to have backups of. Without patterns that is its connection's own. With patterns it is
 * what they choose on the server (`chosen`), and what they chose once and the role may not connect to any more: those
 * backups have stopped without anybody's wish. A database that was dropped, or is left out by the patterns, is not wanted.
 *
 * While nobody knows what the server has, those that were backed up so far stand for it, and names without wildcards; if
 * there are none, `ANY_DATABASE` does, so that a source that nothing is known of is not taken for one without needs.
 */
export function wantedDatabases(
  source: SourceConfig,
  histories: ReadonlyMap<string, StorageHistory | undefined>,
  chosen: DatabaseChoice | undefined,
): readonly string[] {
  const { connection, databases: patterns } = source;
  if (patterns === undefined) return [connection.database];
  const known = backedUpOf(source.name, histories);
  if (chosen !== undefined) return [...chosen.names, ...chosen.notPermitted.filter((name) => known.has(name))];
  const names = selectNames(patterns, known);
  return names.length === 0 ? [ANY_DATABASE] : names;
}

function backedUpOf(source: string, histories: ReadonlyMap<string, StorageHistory | undefined>): ReadonlySet<string> {
  const found = new Set<string>();
  for (const history of histories.values())
    for (const backup of history?.backups.values() ?? []) if (backup.source === source) found.add(backup.database);
  return found;
}
