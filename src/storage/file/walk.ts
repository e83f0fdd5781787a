import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { compareKeys } from '../keys.ts';
import { isPlainDirectory } from './directories.ts';
import { ABSENT, unless } from './system-errors.ts';

export interface WalkOptions {
  /** Only paths that begin with it. */
  readonly prefix: string;
  /** Only paths that come after it. */
  readonly startAfter?: string | undefined;
  /** Which directories to enter, and which files to give, by their own names. */
  readonly enters: (directoryName: string) => boolean;
  readonly gives: (fileName: string) => boolean;
  readonly signal?: AbortSignal | undefined;
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
  const entries = (await unless(ABSENT, () => readdir(join(root, folder), { withFileTypes: true }))) ?? [];
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

function pathOf(entry: Dirent, folder: string, { enters, gives }: WalkOptions): string[] {
  if (entry.isDirectory()) return enters(entry.name) ? [`${folder}${entry.name}/`] : [];
  return entry.isFile() && gives(entry.name) ? [folder + entry.name] : [];
}
