import { startedAt } from './repository-place.ts';
import type { GlobalsRecord } from '../../src/repository/globals.ts';
import { type BackupId, makeBackupId } from '../../src/repository/ids.ts';
import { keys } from '../../src/repository/keys.ts';
import { systemRandom } from '../../src/common/random.ts';

export function makeGlobalsId(): BackupId {
  return makeBackupId(startedAt, 'g', systemRandom);
}

/** The record of globals whose data is `SOURCE/globals/ID.sql.gz`, as far as the repository looks at it. */
export function globalsRecord(
  id: BackupId,
  options: { readonly source?: string; readonly storeTime?: Date } = {},
): GlobalsRecord {
  const source = options.source ?? 'main';
  const time = (options.storeTime ?? startedAt).toISOString();
  const digest = '0'.repeat(64);
  return {
    layout: 1,
    id,
    kind: 'globals',
    source,
    server: { host: 'db', port: 5432, version: '15.1', versionNum: 150_001, inRecovery: false },
    client: { program: 'pg_dumpall', version: '15.1' },
    startedAt: time,
    endedAt: time,
    storeTime: time,
    runId: 'run',
    object: {
      key: `${keys.globals(source, id)}.gz`,
      role: 'globals',
      storedBytes: 1,
      storedSha256: digest,
      plainBytes: 1,
      plainSha256: digest,
    },
    compression: { algorithm: 'gzip', level: 5 },
    leftOut: { passwords: false, hiddenRoles: 0 },
    counts: { roles: 1, tablespaces: 0 },
    pgarkVersion: '1.0.0',
  };
}
