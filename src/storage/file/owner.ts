import type { FileHandle } from 'node:fs/promises';
import { chown, stat } from 'node:fs/promises';
import { unless } from './system-errors.ts';

/** Where nobody may give files away, as root across a network file system, they stay whose they are. */
const NOT_GIVEN = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL'];

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Whom something new in a folder is to belong to, if not to who makes it: root in a storage of somebody else. */
async function ownerIn(folder: string): Promise<Owner | undefined> {
  if (process.geteuid?.() !== 0) return undefined;
  const { uid, gid } = await stat(folder);
  return uid === 0 ? undefined : { uid, gid };
}

/**
 * A folder, or an open file, that was made in a folder belongs to whom that belongs to: what root leaves in a storage, its owner can
 * read, replace and delete. Raw system errors.
 */
export async function giveToOwnerOf(folder: string, made: string | FileHandle): Promise<void> {
  const owner = await ownerIn(folder);
  if (owner === undefined) return;
  const { uid, gid } = owner;
  await unless(NOT_GIVEN, () => (typeof made === 'string' ? chown(made, uid, gid) : made.chown(uid, gid)));
}
