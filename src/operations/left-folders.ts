import path from 'node:path';
import { messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { findLeftFolders } from '../postgres/server/private-folder.ts';
import { reap } from '../postgres/server/reaper.ts';

/** Where a server has its data, in a folder that was made for it, whether it is restored or made anew. */
export const DATA_FOLDER = 'data';

export function pidFilesIn(folder: string): readonly string[] {
  return [path.join(folder, DATA_FOLDER, 'postmaster.pid')];
}

/**
 * Removes the folders of a prefix whose owners were killed, or went down with the machine, with what still runs in them, and warns of
 * those of which that cannot be told. Owners are told by whether they live, never by how old what they made is. Never rejects.
 */
export async function removeLeftFolders(
  workFolder: string,
  { prefix, maker, logger }: { readonly prefix: string; readonly maker: string; readonly logger: Logger },
): Promise<void> {
  try {
    const { left, unclear } = await findLeftFolders(workFolder, prefix);
    for (const folder of left) {
      logger.info('work_folder.removed', `removing ${folder}, which ${maker} that was killed has left`);
      await reap({ directory: folder, pidFiles: pidFilesIn(folder), signal: 'KILL' });
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
