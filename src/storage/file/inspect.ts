import { createHash } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { KIB } from '../../common/bytes.ts';
import type { ObjectInfo, ObjectKey } from '../object-store.ts';
import { ABSENT, unless } from './system-errors.ts';

/**
 * Up to here an etag is made of the content. A file's times and number do not suffice for small objects that change
 * often (leases): two writes within one tick of the file system's clock may reuse a number. Above, reading the content
 * for each line of a list would cost too much.
 */
export const HASHED_BYTES_MAX = 64 * KIB;

export interface Inspected {
  readonly info: ObjectInfo;
  /** All of it, where the etag is made of it. */
  readonly content?: Uint8Array;
  /** The file's number on its file system. */
  readonly inode: bigint;
}

export function contentEtag(content: Uint8Array): string {
  return `c-${createHash('sha256').update(content).digest('hex')}`;
}

/** A link or a rename keeps it; a new file, a write and a touch change it. */
export function statEtag(stat: BigIntStats): string {
  return `s-${stat.ino.toString(36)}-${stat.size.toString(36)}-${stat.mtimeNs.toString(36)}`;
}

const dateOf = (stat: BigIntStats): Date => new Date(Number(stat.mtimeNs / 1_000_000n));

/** Opens a regular file and no other: a symbolic link is refused (ELOOP), a pipe does not make the call wait. */
export function openForReading(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

function large(key: ObjectKey, stat: BigIntStats): Inspected {
  const info = { key, bytes: Number(stat.size), modified: dateOf(stat), etag: statEtag(stat) };
  return { info, inode: stat.ino };
}

/** What is to know of the object in the file; undefined if there is none, or no regular one. Raw system errors. */
export async function inspect(path: string, key: ObjectKey): Promise<Inspected | undefined> {
  const seen = await unless(ABSENT, () => lstat(path, { bigint: true }));
  if (seen === undefined || !seen.isFile()) return undefined;
  if (seen.size > HASHED_BYTES_MAX) return large(key, seen);
  const handle = await unless(ABSENT, () => openForReading(path));
  if (handle === undefined) return undefined;
  try {
    const stat = await handle.stat({ bigint: true });
    if (!stat.isFile()) return undefined;
    if (stat.size > HASHED_BYTES_MAX) return large(key, stat);
    const content = await handle.readFile();
    return {
      info: { key, bytes: content.length, modified: dateOf(stat), etag: contentEtag(content) },
      content,
      inode: stat.ino,
    };
  } finally {
    await handle.close();
  }
}
