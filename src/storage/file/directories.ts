import { constants, type Stats } from 'node:fs';
import { lstat, mkdir, open, realpath, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PgarkError, systemCodeOf } from '../../common/errors.ts';
import { giveToOwnerOf } from './owner.ts';
import { ABSENT, unless } from './system-errors.ts';

const DIRECTORY_MODE = 0o700;
/** How often a path is made again because others, tidying up, removed a part of it in between. */
const REMAKES_MAX = 100;

/** File systems (SMB, some FUSE) on which a directory cannot be synchronised say so with one of these. */
const SYNC_UNSUPPORTED = ['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EISDIR', 'EBADF'];

/** Makes the names in a directory durable. Without it, a power failure can undo a link, a rename or an unlink. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await unless(SYNC_UNSUPPORTED, () => handle.sync());
  } finally {
    await handle.close();
  }
}

/**
 * Whether the path is a real directory, with no symbolic link below the root on the way. `root` is real itself; so are
 * the paths that are made of it by adding names.
 */
export async function isPlainDirectory(path: string): Promise<boolean> {
  // With the dot, a file is refused.
  const real = await unless(ABSENT, () => realpath(`${path}/.`));
  return real === path;
}

/** Makes one directory; false if it was there. Refuses what is there and is none. */
async function makeOne(path: string): Promise<boolean> {
  try {
    await mkdir(path, { mode: DIRECTORY_MODE });
    await giveToOwnerOf(dirname(path), path);
    return true;
  } catch (error) {
    if (systemCodeOf(error) !== 'EEXIST') throw error;
  }
  const found = await lstat(path);
  if (found.isDirectory()) return false;
  throw obstacle(path, 'a directory', found);
}

function obstacle(path: string, wanted: string, found: Stats): PgarkError {
  const kinds: readonly [boolean, string][] = [
    [found.isDirectory(), 'a directory'],
    [found.isFile(), 'a file'],
    [found.isSymbolicLink(), 'a symbolic link'],
    [true, 'a device, pipe or socket'],
  ];
  const kind = kinds.find(([is]) => is)?.[1];
  return new PgarkError('store-unsupported', `${path} would have to be ${wanted}, and ${kind} is there`, {
    hint: 'move it away or choose another name; a directory keeps no file beside a folder of the same name, and pgark follows no links',
  });
}

/**
 * Refuses what stands in the way of the file `root/parts[0]/…`, before anything is written: a file or a link where a
 * directory is needed, a directory or a link where the file would be. Raw system errors.
 */
export async function refuseObstacle(root: string, parts: readonly string[]): Promise<void> {
  let path = root;
  for (const [index, part] of parts.entries()) {
    path = join(path, part);
    const at = path;
    const found = await unless(['ENOENT'], () => lstat(at));
    if (found === undefined) return;
    const isLast = index === parts.length - 1;
    if (isLast ? !found.isFile() : !found.isDirectory()) throw obstacle(path, isLast ? 'a file' : 'a directory', found);
  }
}

/**
 * Makes `root/parts[0]/parts[1]/…` where it is missing, and with `durable` so that it outlives a power failure. Others
 * may remove empty directories at the same time.
 */
export async function ensureDirectory(root: string, parts: readonly string[], durable: boolean): Promise<string> {
  const wanted = join(root, ...parts);
  for (let remakes = 0; ; remakes += 1) {
    if (await isPlainDirectory(wanted)) return wanted;
    try {
      let path = root;
      for (const part of parts) {
        const parent = path;
        path = join(path, part);
        if ((await makeOne(path)) && durable) await syncDirectory(parent);
      }
      return wanted;
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT' || remakes === REMAKES_MAX) throw error;
    }
  }
}

/** Removes the directory and its parents below `stop` as far as they are empty. Tidiness only: it never fails. */
export async function removeEmptyDirectories(stop: string, directory: string): Promise<void> {
  for (let path = directory; path.length > stop.length; path = dirname(path)) {
    try {
      await rmdir(path);
    } catch {
      return;
    }
  }
}
