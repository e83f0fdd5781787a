import path from 'node:path';
import { messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { findLeftFolders, makePrivateFolder } from '../postgres/server/private-folder.ts';
import { reap, startReaper } from '../postgres/server/reaper.ts';
import { type Account, findServerAccount } from '../postgres/server/server-programs.ts';

export interface WorkFolder {
  /** Nobody else can enter it but the account that the server runs under. */
  readonly path: string;
  /** For the data of the server, whether that is restored or made anew. */
  readonly data: string;
  readonly account: Account | undefined;
}

/** Lets a server be worked with in a folder of its own, which is gone behind the work, however that ends, with what runs in it. */
export async function withWorkFolder<T>(
  parent: string,
  prefix: string,
  work: (folder: WorkFolder) => Promise<T>,
): Promise<T> {
  const account = await findServerAccount();
  const own = await makePrivateFolder(parent, prefix, account);
  const folder = { path: own.path, data: dataIn(own.path), account };
  const reaper = await startReaper({ directory: own.path, pidFiles: pidFilesIn(own.path), signal: 'QUIT' });
  try {
    return await work(folder);
  } finally {
    await own.remove();
    await reaper.dismiss();
  }
}

function dataIn(folder: string): string {
  return path.join(folder, 'data');
}

function pidFilesIn(folder: string): readonly string[] {
  return [path.join(dataIn(folder), 'postmaster.pid')];
}

/**
 * Removes the folders of a prefix whose owners were killed, or went down with the machine, with what still runs in them, and warns of
 * those of which that cannot be told. Owners are told by whether they live, never by how old what they made is; folders of others than
 * our own user and that of our servers stay. Never rejects.
 */
export async function removeLeftFolders(
  workFolder: string,
  { prefix, maker, logger }: { readonly prefix: string; readonly maker: string; readonly logger: Logger },
): Promise<void> {
  try {
    const account = await findServerAccount();
    const users = [process.getuid?.(), account?.uid].filter((uid) => uid !== undefined);
    const { left, unclear } = await findLeftFolders(workFolder, prefix, users);
    for (const { path: folder, inode } of left) {
      logger.info('work_folder.removed', `removing ${folder}, which ${maker} that was killed has left`);
      await reap({ directory: folder, inode, pidFiles: pidFilesIn(folder), signal: 'KILL' });
    }
    for (const folder of unclear) {
      logger.warning(
        'work_folder.unclear',
        `${folder} is of ${maker} on another machine, or from before this one had its name: remove it if none runs there`,
      );
    }
  } catch (error) {
    logger.warning(
      'work_folder.cleanup_failed',
      `what ${maker} that was killed has left could not be removed: ${messageOf(error)}`,
    );
  }
}
