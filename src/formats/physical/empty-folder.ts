import { chmod, chown, mkdir, readdir, rm, rmdir, stat, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { formatBytes } from '../../common/bytes.ts';
import { messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';
import { DIRECTORY_MODE, type Owner } from './target-files.ts';

/**
 * Looks at an absolute path that a restore is to fill, and changes nothing: it is an empty folder, or is not there yet.
 * Errors: `target-not-empty`; `restore-failed` where it is no folder, or its disk has no room for so many bytes.
 */
export async function inspectEmptyFolder(folder: string, bytesNeeded: number): Promise<void> {
  const { existing } = await nearestExisting(folder);
  const { bavail, bsize } = await statfs(existing);
  const free = bavail * bsize;
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
  /** It is not empty any more: takes the mark away that kept others out. */
  finish(): Promise<void>;
  /** Leaves it as it was found. Never rejects. */
  discard(): Promise<void>;
}

/** Stands in a folder that is being filled, so that nobody else fills it, and what a killed restore leaves can be told. */
const MARK = '.pgark-restoring';

/** Makes the folder if it is not there; it can be read by its owner alone. Errors: as those of `inspectEmptyFolder`. */
export async function takeEmptyFolder(folder: string): Promise<FilledFolder> {
  const { existing, missing } = await nearestExisting(folder);
  const found = await stat(existing);
  const owner = process.getuid?.() === 0 && found.uid !== 0 ? { uid: found.uid, gid: found.gid } : undefined;
  const mark = path.join(folder, MARK);
  const made: string[] = [];
  try {
    for (const each of missing) {
      await mkdir(each, { mode: DIRECTORY_MODE });
      made.push(each);
      if (owner !== undefined) await chown(each, owner.uid, owner.gid);
    }
    await writeFile(
      mark,
      'pgark restores into this directory; after a restore that was killed all of it can be removed\n',
      {
        flag: 'wx',
      },
    );
  } catch (error) {
    // Without what is in them: that would be another's.
    for (const each of made.toReversed()) await rmdir(each).catch(() => undefined);
    throw systemCodeOf(error) === 'EEXIST' ? beingFilled(folder) : cannotUse(folder, error);
  }
  const [top] = made;
  const discard = async (): Promise<void> => {
    if (top !== undefined) await removeQuietly(top);
    else {
      for (const name of await readdir(folder).catch(() => [])) await removeQuietly(path.join(folder, name));
      await chmod(folder, found.mode & 0o7777).catch(() => undefined);
    }
  };
  try {
    if (top === undefined) await chmod(folder, DIRECTORY_MODE);
  } catch (error) {
    await discard();
    throw cannotUse(folder, error);
  }
  return { path: folder, owner, finish: () => rm(mark, { force: true }), discard };
}

/** The folder itself or the nearest one above it that is there, and those that are not, from above. */
async function nearestExisting(folder: string): Promise<{ existing: string; missing: readonly string[] }> {
  const missing: string[] = [];
  for (let each = folder; ; each = path.dirname(each)) {
    try {
      const names = await readdir(each);
      if (each !== folder || names.length === 0) return { existing: each, missing };
    } catch (error) {
      if (systemCodeOf(error) !== 'ENOENT' || each === path.dirname(each)) throw cannotUse(folder, error);
      missing.unshift(each);
      continue;
    }
    if ((await readdir(folder)).includes(MARK)) throw beingFilled(folder);
    throw new PgarkError('target-not-empty', `the directory ${folder} is not empty`, {
      hint: 'name one that is empty, or that does not exist yet; a running server’s files are never written over',
    });
  }
}

function beingFilled(folder: string): PgarkError {
  return new PgarkError(
    'target-not-empty',
    `the directory ${folder} is being filled by another restore, or one that was killed`,
    {
      hint: 'name another directory; if no restore runs into this one, remove it with all that is in it',
    },
  );
}

async function removeQuietly(each: string): Promise<void> {
  await rm(each, { recursive: true, force: true }).catch(() => undefined);
}

function cannotUse(folder: string, error: unknown): PgarkError {
  return new PgarkError('restore-failed', `cannot use the directory ${folder}: ${messageOf(error)}`, {
    cause: error,
    hint: 'choose a directory that this user may write to',
  });
}
