import { lstat, opendir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { removeEmptyDirectories } from './directories.ts';
import { isClockFileName, isProbeKey, uploadIdOf, uploadsFolder } from './layout.ts';
import { ABSENT, unless } from './system-errors.ts';

/** A probe lasts moments; what is older was left by a killed process. */
export const PROBE_STALE_MS = 3_600_000;
/** Entries of one directory that are looked at, at one time. */
const ENTRIES_MAX = 10_000;

/**
 * Removes what probes and looks at the clock of killed processes left. It is no data and nobody's but the store's own, by
 * its name, so that here an age may decide: by the file system's clock, which `now` was read from. Never rejects: what
 * cannot be removed is hidden from all lists, takes next to no room, and is met again by the next probe.
 */
export async function removeProbeLeftovers(root: string, now: Date, staleMs: number): Promise<void> {
  try {
    const isStale = async (path: string): Promise<boolean> => {
      const found = await unless(ABSENT, () => lstat(path));
      return found?.isFile() === true && now.getTime() - found.mtimeMs > staleMs;
    };
    const removeStale = async (folder: string, isOurs: (name: string) => boolean): Promise<void> => {
      for (const name of await names(folder, isOurs)) {
        const path = join(folder, name);
        if (await isStale(path)) await rm(path, { force: true });
      }
    };
    await removeStale(root, isProbeKey);
    const uploads = uploadsFolder(root);
    await removeStale(uploads, isClockFileName);
    for (const name of await names(uploads, isProbeKey)) {
      const folder = join(uploads, name);
      const found = await unless(ABSENT, () => lstat(folder));
      // Never through a link; and the folder of a probe that goes on stays.
      if (found?.isDirectory() !== true || now.getTime() - found.mtimeMs <= staleMs) continue;
      await removeStale(folder, (file) => uploadIdOf(file) !== undefined);
      await removeEmptyDirectories(uploads, folder);
    }
  } catch {
    // See above.
  }
}

async function names(folder: string, wanted: (name: string) => boolean): Promise<string[]> {
  const found: string[] = [];
  const directory = await unless(ABSENT, () => opendir(folder));
  if (directory === undefined) return found;
  let looked = 0;
  for await (const { name } of directory) {
    if (wanted(name)) found.push(name);
    looked += 1;
    if (looked === ENTRIES_MAX) break;
  }
  return found;
}
