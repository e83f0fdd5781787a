import { chmod, chown, lstat, mkdir, readdir, rm, rmdir, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { formatBytes } from '../../common/bytes.ts';
import { isPgarkError, messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';
import { beingFilled, checkReplaceable, emptyFolder, putMark, takeOver } from './restore-mark.ts';
import { DIRECTORY_MODE, type Owner } from './target-files.ts';

/** In which the system counts the room that a file takes (stat(2)). */
const BLOCK_BYTES = 512;

export interface FillOptions {
  /** Whether what an unfinished restore has left in the folder goes. Default: it is refused like everything else. */
  readonly replacesUnfinished?: boolean | undefined;
}

/**
 * Looks at an absolute path that a restore is to fill, and changes nothing: it is an empty folder, or is not there yet.
 * Errors: `target-not-empty`; `restore-failed` where it is no folder, or its disk has no room for so many bytes.
 */
export async function inspectEmptyFolder(
  folder: string,
  bytesNeeded: number,
  { replacesUnfinished = false }: FillOptions = {},
): Promise<void> {
  const { existing, isEmpty } = await nearestExisting(folder);
  if (!isEmpty) await checkReplaceable(folder, replacesUnfinished);
  const { bavail, bsize } = await statfs(existing);
  const free = bavail * bsize + (isEmpty ? 0 : await bytesBelow(Buffer.from(folder)));
  if (free >= bytesNeeded) return;
  throw new PgarkError(
    'restore-failed',
    `${folder} would take about ${formatBytes(bytesNeeded)}, and its disk has ${formatBytes(free)} free`,
    { hint: 'choose a directory on another disk, or free space on this one' },
  );
}

/** An empty folder that is ours to fill. */
export interface FilledFolder {
  readonly path: string;
  /** Whose what is written becomes, where that is not who writes: what root restores is the folder's owner's. */
  readonly owner: Owner | undefined;
  /** All of it is there: takes the mark away that kept others out. */
  finish(): Promise<void>;
  /** Leaves it as it was found. Never rejects. */
  discard(): Promise<void>;
}

/** Makes the folder if it is not there; it can be read by its owner alone. Errors: as those of `inspectEmptyFolder`. */
export async function takeEmptyFolder(
  folder: string,
  { replacesUnfinished = false }: FillOptions = {},
): Promise<FilledFolder> {
  const { existing, missing, isEmpty } = await nearestExisting(folder);
  if (!isEmpty) await checkReplaceable(folder, replacesUnfinished);
  const found = await stat(existing);
  const owner = process.getuid?.() === 0 && found.uid !== 0 ? { uid: found.uid, gid: found.gid } : undefined;
  const made: string[] = [];
  let mark: string;
  try {
    for (const each of missing) {
      await mkdir(each, { mode: DIRECTORY_MODE });
      made.push(each);
      if (owner !== undefined) await chown(each, owner.uid, owner.gid);
    }
    mark = isEmpty ? await putMark(folder) : await takeOver(folder);
  } catch (error) {
    // Without what is in them: that would be another's.
    for (const each of made.toReversed()) await rmdir(each).catch(() => undefined);
    if (isPgarkError(error)) throw error;
    throw systemCodeOf(error) === 'EEXIST' ? beingFilled(folder) : cannotUse(folder, error);
  }
  const [top] = made;
  const discard = async (): Promise<void> => {
    await emptyFolder(folder).catch(() => undefined);
    if (top !== undefined) await rm(top, { recursive: true, force: true }).catch(() => undefined);
    else await chmod(folder, found.mode & 0o7777).catch(() => undefined);
  };
  try {
    if (top === undefined) await chmod(folder, DIRECTORY_MODE);
  } catch (error) {
    await discard();
    throw cannotUse(folder, error);
  }
  return { path: folder, owner, finish: () => rm(path.join(folder, mark), { force: true }), discard };
}

/** The folder itself or the nearest one above it that is there, and those that are not, from above; `isEmpty` is the folder's. */
async function nearestExisting(
  folder: string,
): Promise<{ readonly existing: string; readonly missing: readonly string[]; readonly isEmpty: boolean }> {
  const missing: string[] = [];
  for (let each = folder; ; each = path.dirname(each)) {
    try {
      const names = await readdir(each);
      return { existing: each, missing, isEmpty: each !== folder || names.length === 0 };
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT' || each === path.dirname(each)) throw cannotUse(folder, error);
      missing.unshift(each);
    }
  }
}

/** Room on the disk that is free when the folder is empty. Names are bytes, which need not be UTF-8. */
async function bytesBelow(folder: Buffer): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, encoding: 'buffer' })) {
    const each = Buffer.concat([folder, Buffer.from('/'), entry.name]);
    if (entry.isDirectory()) bytes += await bytesBelow(each);
    else bytes += (await lstat(each)).blocks * BLOCK_BYTES;
  }
  return bytes;
}

function cannotUse(folder: string, error: unknown): PgarkError {
  return new PgarkError('restore-failed', `cannot use the directory ${folder}: ${messageOf(error)}`, {
    cause: error,
    hint: 'choose a directory that this user may write to',
  });
}
