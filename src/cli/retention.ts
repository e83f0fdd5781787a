import type { Config } from '../config/model.ts';
import type { BackupKind } from '../repository/ids.ts';
import type { RetentionPolicy } from '../retention/policy.ts';

/**
 * The policy for a backup that lies in a storage: that of the source's job that writes there. A backup of a source that
 * the configuration does not know is never pruned, nor one of another database than the source's, unless the source has
 * patterns: then what they chose once goes on to be its own.
 */
export function policyFor(
  config: Config,
  storage: string,
  source: string,
  database: string,
  kind: BackupKind,
): RetentionPolicy | undefined {
  const configured = config.databases.get(source);
  if (configured === undefined) return undefined;
  if (configured.databases === undefined && configured.connection.database !== database) return undefined;
  const job = [...configured.jobs.values()].find(
    (each) => (each.format === 'physical') === (kind === 'physical') && each.to.includes(storage),
  );
  return job?.retention;
}
