import { messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { Repository } from '../repository/repository.ts';
import type { CallOptions } from '../storage/object-store.ts';

/** A server as manifests describe it. */
export type RecordedServer = Pick<Manifest['server'], 'host' | 'port' | 'systemIdentifier'>;

/** `db1:5432 (system identifier 7300000000000000001)`. */
export function describeServer({ host, port, systemIdentifier }: RecordedServer): string {
  const identifier = systemIdentifier === undefined ? '' : ` (system identifier ${systemIdentifier})`;
  return `${host}:${port}${identifier}`;
}

/** Whether both are known and are not the same cluster. Hosts prove nothing: a server may have many, and change them. */
export function areOtherServers(
  one: { readonly systemIdentifier?: string | undefined },
  other: { readonly systemIdentifier?: string | undefined },
): boolean {
  return (
    one.systemIdentifier !== undefined &&
    other.systemIdentifier !== undefined &&
    one.systemIdentifier !== other.systemIdentifier
  );
}

/**
 * Warns if the newest backup of the same source and database is of another server: two servers that share a name take
 * turns in one history. One LIST, one GET. What goes wrong is a warning too: it must never stop a backup.
 */
export async function warnOfOtherServer(
  repository: Repository,
  current: { readonly source: string; readonly database: string; readonly server: RecordedServer },
  { logger, signal }: Required<CallOptions> & { readonly logger: Logger },
): Promise<void> {
  const { source, database, server } = current;
  try {
    const [key] = await repository.newestKeys({ source, database }, { signal });
    const newest = key && (await repository.manifestAt(key.key, { signal }));
    if (newest === undefined || !areOtherServers(newest.server, server)) return;
    logger.warning(
      'source.other_server',
      `the newest backup of ${source === database ? source : `${source}/${database}`} is of another server, ${describeServer(newest.server)}; this one is ${describeServer(server)}. After a move or pg_upgrade there is nothing to do; if these are two servers, give each a BACKUP_NAME or a storage prefix of its own`,
      { backupId: newest.id, storage: repository.store.location, other: newest.server, server },
    );
  } catch (error) {
    signal.throwIfAborted();
    logger.warning(
      'source.other_server_unknown',
      `whether the newest backup of ${source} is of another server could not be found out: ${messageOf(error)}`,
    );
  }
}
