import path from 'node:path';
import { MIB } from '../../common/bytes.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import { makePrivateFolder } from '../../postgres/server/private-folder.ts';
import { startReaper } from '../../postgres/server/reaper.ts';
import { type Account, findServerAccount, findServerOfMajor } from '../../postgres/server/server-programs.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { Run } from '../../runs/run.ts';
import { DATA_FOLDER, pidFilesIn, removeLeftFolders } from '../left-folders.ts';
import type { Scratch } from './drill-request.ts';

const PREFIX = 'pgark-drill-';
const MEMORY_BYTES_DEFAULT = 512 * MIB;

export interface ScratchFolder {
  /** Nobody else can enter it but the account that the server runs under. */
  readonly path: string;
  /** For the data of a restored server. */
  readonly data: string;
  readonly account: Account | undefined;
}

/**
 * Works in a folder that is gone behind the work, however that ends, with what runs in it. What drills that were killed have left
 * in the same place goes first.
 */
export async function withScratchFolder<T>(
  { workFolder }: Extract<Scratch, { kind: 'own' }>,
  run: Run,
  work: (folder: ScratchFolder) => Promise<T>,
): Promise<T> {
  await removeLeftFolders(workFolder, { prefix: PREFIX, maker: 'a drill', logger: run.logger });
  const account = await findServerAccount();
  const own = await makePrivateFolder(workFolder, PREFIX, account);
  const folder = { path: own.path, data: path.join(own.path, DATA_FOLDER), account };
  const reaper = await startReaper({ directory: own.path, pidFiles: pidFilesIn(own.path), signal: 'QUIT' });
  try {
    return await work(folder);
  } finally {
    await own.remove();
    await reaper.dismiss();
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

/** The folder of the server's programs. Error: `client-missing`, with what can be done about it. */
export async function findScratchServer(
  { binDir }: Extract<Scratch, { kind: 'own' }>,
  { server }: Manifest,
): Promise<string> {
  if (binDir !== undefined) return binDir;
  const major = Math.floor(server.versionNum / 10_000);
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
