import { lstat, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCodeOf } from '../../common/errors.ts';
import type { ObjectKey, WriteCondition } from '../object-store.ts';
import { type ClaimSettings, claim } from './claims.ts';
import { ensureDirectory, removeEmptyDirectories, syncDirectory } from './directories.ts';
import { inspect } from './inspect.ts';
import { objectFolder, objectFolderParts, objectPath, uploadsFolder, workFolder } from './layout.ts';
import { ABSENT, unless } from './system-errors.ts';

/** A complete, synchronised file in the work folder of the key that it is to become the object of. */
export interface Unpublished {
  readonly root: string;
  readonly key: ObjectKey;
  readonly fileName: string;
  /** Its number, by which it is known again after a rename whose answer was lost (NFS). */
  readonly inode: bigint;
}

export interface PublishSettings extends ClaimSettings {
  /** link(2): gives a file a second name, which must be free. */
  readonly link: (existing: string, name: string) => Promise<void>;
}

/**
 * - `published`: it is the object now, durably, and the work folder holds nothing of it.
 * - `refused`: the object is not as the condition says; nothing was changed.
 * - `removed`: others removed the file before it could be published; nothing was changed.
 */
export type PublishOutcome = 'published' | 'refused' | 'removed';

/** File systems without hard links (FAT, some SMB and FUSE mounts) say so with one of these. */
const LINK_UNSUPPORTED = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];
const REMAKES_MAX = 100;

/** Whether the object of the key is the very file. A regular file only: a link to it is none. */
async function isPublished(file: Unpublished): Promise<boolean> {
  const found = await unless(ABSENT, () => lstat(objectPath(file.root, file.key), { bigint: true }));
  return found !== undefined && found.isFile() && found.ino === file.inode;
}

/** Makes the object's folder and calls `place`, again if the folder was tidied away in between. */
async function placeInFolder(
  file: Unpublished,
  source: string,
  place: () => Promise<PublishOutcome>,
): Promise<PublishOutcome> {
  for (let remakes = 0; ; remakes += 1) {
    await ensureDirectory(file.root, objectFolderParts(file.key), true);
    try {
      return await place();
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT' || remakes === REMAKES_MAX) throw error;
      if ((await unless(ABSENT, () => lstat(source))) !== undefined) continue;
      return (await isPublished(file)) ? 'published' : 'removed';
    }
  }
}

/** Undefined where the file system has no links. The source keeps its name. */
async function placeByLink(
  file: Unpublished,
  source: string,
  { link }: PublishSettings,
): Promise<PublishOutcome | undefined> {
  const target = objectPath(file.root, file.key);
  try {
    return await placeInFolder(file, source, async () => {
      await link(source, target);
      return 'published';
    });
  } catch (error) {
    const code = systemCodeOf(error) ?? '';
    if (code === 'EEXIST') return (await isPublished(file)) ? 'published' : 'refused';
    if (LINK_UNSUPPORTED.includes(code)) return undefined;
    throw error;
  }
}

function placeByRename(file: Unpublished, source: string): Promise<PublishOutcome> {
  return placeInFolder(file, source, async () => {
    await rename(source, objectPath(file.root, file.key));
    return 'published';
  });
}

/** Whether the object is as the condition wants it. */
export async function holds(root: string, key: ObjectKey, condition: WriteCondition | undefined): Promise<boolean> {
  if (condition === undefined) return true;
  const path = objectPath(root, key);
  if ('ifAbsent' in condition) return (await unless(ABSENT, () => lstat(path))) === undefined;
  return (await inspect(path, key))?.info.etag === condition.ifMatch;
}

/** Under a claim, which `source` is: nobody else who claims changes the object between the look and the rename. */
async function placeClaimed(
  file: Unpublished,
  source: string,
  condition: WriteCondition | undefined,
  settings: PublishSettings,
): Promise<PublishOutcome> {
  if (!(await holds(file.root, file.key, condition))) return 'refused';
  if (condition !== undefined && 'ifAbsent' in condition) {
    // A link is refused by the file system itself if the name is taken, also by who does not claim.
    const outcome = await placeByLink(file, source, settings);
    if (outcome !== undefined) return outcome;
  }
  return placeByRename(file, source);
}

/**
 * Removes all that the work folder holds of the file, and the folder if nothing else is in it. It never fails, so that it
 * hides no other error: what cannot be removed is found by `listUploads`.
 */
export async function discard(root: string, key: ObjectKey, names: Iterable<string>): Promise<void> {
  const folder = workFolder(root, key);
  for (const name of names) await rm(join(folder, name), { force: true }).catch(() => {});
  await removeEmptyDirectories(uploadsFolder(root), folder);
}

/** After the object's name is there: durable, or taken back. */
async function settle(file: Unpublished): Promise<void> {
  const folder = objectFolder(file.root, file.key);
  try {
    await syncDirectory(folder);
  } catch (error) {
    // Emptied and removed by others, together with the object: that is durable or not without us.
    if (systemCodeOf(error) === 'ENOENT') return;
    if (await isPublished(file)) await rm(objectPath(file.root, file.key), { force: true });
    throw error;
  }
}

/** Publishes on a condition, or over whatever is there. The file is gone from the work folder however this ends. */
export async function publish(
  file: Unpublished,
  condition: WriteCondition | undefined,
  settings: PublishSettings,
  signal?: AbortSignal,
): Promise<PublishOutcome> {
  const names = new Set([file.fileName]);
  const folder = workFolder(file.root, file.key);
  try {
    const claimed = await claim(folder, file.fileName, settings, names, signal);
    if (claimed === undefined) return 'removed';
    const outcome = await placeClaimed(file, join(folder, claimed), condition, settings);
    if (outcome === 'published') await settle(file);
    return outcome;
  } finally {
    await discard(file.root, file.key, names);
  }
}

/**
 * Publishes under a name that must be free. Needs no claim where the file system has links, so that a long upload cannot
 * be lost to a pause in its last step. The file is gone from the work folder however this ends.
 */
export async function publishNew(
  file: Unpublished,
  settings: PublishSettings,
  signal?: AbortSignal,
): Promise<PublishOutcome> {
  try {
    const outcome = await placeByLink(file, join(workFolder(file.root, file.key), file.fileName), settings);
    if (outcome === undefined) return await publish(file, { ifAbsent: true }, settings, signal);
    if (outcome === 'published') await settle(file);
    return outcome;
  } finally {
    await discard(file.root, file.key, [file.fileName]);
  }
}
