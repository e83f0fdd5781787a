import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isPgarkError, type PgarkError } from '../../common/errors.ts';
import { compareKeys } from '../keys.ts';
import { isPlainDirectory } from './directories.ts';
import { ABSENT, fileError, unless } from './system-errors.ts';

export interface WalkOptions {
  /** Only paths that begin with it. */
  readonly prefix: string;
  /** Only paths that come after it. */
  readonly startAfter?: string | undefined;
  /** Which directories to enter, by their names and the path of the folder that they are in, and which files to give. */
  readonly enters: (directoryName: string, folder: string) => boolean;
  readonly gives: (fileName: string) => boolean;
  readonly signal?: AbortSignal | undefined;
  /** Called for a directory below the first one that may not be read: it is left out then. Default: an error. */
  readonly onUnseen?: ((path: string, error: PgarkError) => void) | undefined;
}

/**
 * The paths (relative to `root`, parts separated by `/`) of all regular files below it, ascending by their UTF-8 bytes.
 * Memory holds the names of one directory and of those on the way to it. Symbolic links are not followed; what vanishes
 * meanwhile is left out.
 *
 * A directory's entries are put in order as they stand in the whole path: `a-b` < `a/…` < `a0`, so that a directory
 * counts with the slash that follows its name.
 */
export async function* walk(root: string, options: WalkOptions): AsyncGenerator<string> {
  const { prefix } = options;
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
  if (await isPlainDirectory(join(root, folder.slice(0, -1)))) yield* walkFolder(root, folder, options);
}

async function* walkFolder(root: string, folder: string, options: WalkOptions): AsyncGenerator<string> {
  const { prefix, startAfter = '', signal } = options;
  signal?.throwIfAborted();
  const entries = (await entriesOf(root, folder, options)) ?? [];
  const paths = entries.flatMap((entry) => pathOf(entry, folder, options)).sort(compareKeys);
  for (const path of paths) {
    signal?.throwIfAborted();
    const isFolder = path.endsWith('/');
    if (isFolder ? !(path.startsWith(prefix) || prefix.startsWith(path)) : !path.startsWith(prefix)) continue;
    if (isFolder) {
      if (compareKeys(path, startAfter) > 0 || startAfter.startsWith(path)) yield* walkFolder(root, path, options);
    } else if (compareKeys(path, startAfter) > 0) {
      yield path;
    }
  }
}

async function entriesOf(
  root: string,
  folder: string,
  { prefix, onUnseen }: WalkOptions,
): Promise<readonly Dirent[] | undefined> {
  const path = join(root, folder);
  try {
    return await unless(ABSENT, () => readdir(path, { withFileTypes: true }));
  } catch (thrown) {
    const error = fileError(thrown, `list the directory ${path}`);
    // What was asked for by its name is not left out.
    if (!isPgarkError(error, 'store-access-denied') || onUnseen === undefined || prefix.startsWith(folder)) throw error;
    onUnseen(folder, error);
    return undefined;
  }
}

function pathOf(entry: Dirent, folder: string, { enters, gives }: WalkOptions): string[] {
  if (entry.isDirectory()) return enters(entry.name, folder) ? [`${folder}${entry.name}/`] : [];
  return entry.isFile() && gives(entry.name) ? [folder + entry.name] : [];
}
