import { MIB } from '../../common/bytes.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import { checkServerOfMajor, findServerOfMajor } from '../../postgres/server/server-programs.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { Run } from '../../runs/run.ts';
import { ofSettingUp } from './of-machine.ts';
import { removeLeftFolders, type WorkFolder, withWorkFolder } from '../work-folder.ts';
import type { Scratch } from './drill-request.ts';

const PREFIX = 'pgark-drill-';
const MEMORY_BYTES_DEFAULT = 512 * MIB;

/**
 * Works in a folder of the drill's own; what drills that were killed have left in the same place goes first. Error:
 * `drill-impossible` where there can be none.
 */
export async function withScratchFolder<T>(
  { workFolder }: Extract<Scratch, { kind: 'own' }>,
  { id }: Pick<Manifest, 'id'>,
  run: Run,
  work: (folder: WorkFolder) => Promise<T>,
): Promise<T> {
  await removeLeftFolders(workFolder, { prefix: PREFIX, maker: 'a drill', logger: run.logger });
  let isMade = false;
  try {
    return await withWorkFolder(workFolder, PREFIX, (folder) => {
      isMade = true;
      return work(folder);
    });
  } catch (error) {
    throw isMade ? error : ofSettingUp(id, error);
  }
}

/** Settings of a server that lives for a drill, and shares the machine with others. */
export function scratchSettings({
  memoryBytes = MEMORY_BYTES_DEFAULT,
}: Extract<Scratch, { kind: 'own' }>): Record<string, string> {
  const share = (part: number, leastMib: number): string =>
    `${Math.max(leastMib, Math.floor(memoryBytes / MIB / part))}MB`;
  return {
    shared_buffers: share(4, 16),
    maintenance_work_mem: share(8, 16),
    work_mem: share(64, 4),
    huge_pages: 'off',
    autovacuum: 'off',
    max_logical_replication_workers: '0',
  };
}

/**
 * The folder of the server's programs: of the backup's major version, or where that is a dump of a newer one too if somebody names it.
 * Error: `client-missing`, with what can be done about it.
 */
export async function findScratchServer(
  { binDir }: Extract<Scratch, { kind: 'own' }>,
  { server, format }: Manifest,
): Promise<string> {
  const major = Math.floor(server.versionNum / 10_000);
  if (binDir !== undefined) {
    await checkServerOfMajor(binDir, major, { orNewer: format !== 'physical' });
    return binDir;
  }
  try {
    return await findServerOfMajor(major);
  } catch (error) {
    if (!isPgarkError(error, 'client-missing')) throw error;
    throw new PgarkError('client-missing', error.message, {
      cause: error,
      hint: `on Debian and Ubuntu: apt-get install postgresql-${major}; or name the folder of its programs by --bin-dir; a dump can also be restored into a scratch server that is there: --to-url URL`,
    });
  }
}
