import { Buffer } from 'node:buffer';
import { lstat, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PgarkError } from '../../common/errors.ts';
import type { Random } from '../../common/random.ts';
import { assertKey, isKey } from '../keys.ts';
import type { ObjectKey } from '../object-store.ts';
import { ABSENT, io, unless } from './system-errors.ts';

/**
 * What lies where: an object is the file `ROOT/KEY`. What is not complete lies apart, in a mirror of the tree, so that it
 * is found by its key without reading all objects' directories, and without notes beside it:
 *
 *     ROOT/.pgark-uploads/KEY/.pgark-upload-ID     being written
 *     ROOT/.pgark-uploads/KEY/.pgark-claim-ID      complete and about to become the object (claims.ts)
 *     ROOT/.pgark-uploads/.pgark-clock-ID          there for an instant, to read the file system's clock
 *     ROOT/.pgark-probe-ID                         there for an instant, to try conditional writes
 *
 * Parts of names that begin with `.pgark-` are the store's own; no object can have one.
 */
const RESERVED = '.pgark-';
const UPLOADS = `${RESERVED}uploads`;
const UNFINISHED_NAME = /^\.pgark-((?:upload|claim)-[0-9a-f]{32})$/;

/** NAME_MAX of nearly every file system. Checked at once, since some mounts cut or mangle longer names. */
const SEGMENT_BYTES_MAX = 255;

/** What the file system keeps at its top for itself, and lets only root look into. */
const RESCUED = 'lost+found';

export function isReserved(segment: string): boolean {
  return segment.startsWith(RESERVED);
}

/** Whether a directory of this name, in the folder of this path, may hold objects. */
export function mayHoldObjects(name: string, folder: string): boolean {
  return !isReserved(name) && (folder !== '' || name !== RESCUED);
}

/** Rejects with `object-key-invalid`, for what no store keeps and for what this one does not. */
export function assertFileKey(key: ObjectKey): void {
  assertKey(key);
  for (const [index, segment] of key.split('/').entries()) {
    const fault = isReserved(segment)
      ? `parts that begin with ${RESERVED} are reserved`
      : index === 0 && segment === RESCUED
        ? `${RESCUED} is the file system's own`
        : Buffer.byteLength(segment) > SEGMENT_BYTES_MAX
          ? `a part of it is longer than ${SEGMENT_BYTES_MAX} bytes`
          : undefined;
    if (fault === undefined) continue;
    throw new PgarkError(
      'object-key-invalid',
      `${JSON.stringify(key)} cannot be the name of a file in the storage directory: ${fault}`,
      { hint: 'change the source’s name or the file name template' },
    );
  }
}

/** Whether a file that was found can be an object: a foreign file may have a name that no key has. */
export function isFileKey(path: string): boolean {
  const segments = path.split('/');
  return isKey(path) && segments[0] !== RESCUED && !segments.some(isReserved);
}

/**
 * The root with all symbolic links resolved; its own path may have some. Undefined if nothing is there but the directory
 * it would be made in: a storage that nobody has written to yet. Rejects with `store-bucket-missing` for everything else
 * that is no directory: a wrong path, a disk that is not mounted, a file.
 */
export async function findRoot(root: string): Promise<string | undefined> {
  const found = await io(`open the storage directory ${root}`, async () => {
    // With the dot, a file of that name is refused.
    const real = await unless(ABSENT, () => realpath(`${root}/.`));
    if (real !== undefined) return { real };
    const itself = await unless(ABSENT, () => lstat(root));
    const parent = itself === undefined ? await unless(ABSENT, () => stat(dirname(root))) : undefined;
    return parent?.isDirectory() === true ? { real: undefined } : undefined;
  });
  if (found === undefined) throw rootMissing(root);
  return found.real;
}

/** The same for calls that write: rejects with `store-bucket-missing` also where nobody has written yet. */
export async function realRoot(root: string): Promise<string> {
  const real = await findRoot(root);
  if (real === undefined) throw rootMissing(root);
  return real;
}

function rootMissing(root: string): PgarkError {
  return new PgarkError('store-bucket-missing', `the storage directory ${root} does not exist, or is not a directory`, {
    hint: 'check the path and that its disk is mounted; pgark makes the directory with the first backup if its parent exists',
  });
}

export const objectPath = (root: string, key: ObjectKey): string => join(root, key);
export const objectFolderParts = (key: ObjectKey): string[] => key.split('/').slice(0, -1);
export const objectFolder = (root: string, key: ObjectKey): string => dirname(objectPath(root, key));

export const uploadsFolder = (root: string): string => join(root, UPLOADS);
export const workFolderParts = (key: ObjectKey): string[] => [UPLOADS, ...key.split('/')];
export const workFolder = (root: string, key: ObjectKey): string => join(root, ...workFolderParts(key));

function randomId(random: Random): string {
  return Buffer.from(random.bytes(16)).toString('hex');
}

export const uploadFileName = (random: Random): string => `${RESERVED}upload-${randomId(random)}`;
export const claimFileName = (random: Random): string => `${RESERVED}claim-${randomId(random)}`;
export const clockFileName = (random: Random): string => `${RESERVED}clock-${randomId(random)}`;
/** Not a key of an object; hidden from lists as all reserved names are. */
export const probeKey = (random: Random): string => `${RESERVED}probe-${randomId(random)}`;
export const isProbeKey = (name: string): boolean => /^\.pgark-probe-[0-9a-f]{32}$/.test(name);
export const isClockFileName = (name: string): boolean => /^\.pgark-clock-[0-9a-f]{32}$/.test(name);
export const isClaimFileName = (name: string): boolean => name.startsWith(`${RESERVED}claim-`);

/** The upload id in the name of an unfinished file; undefined for any other name. */
export function uploadIdOf(fileName: string): string | undefined {
  return UNFINISHED_NAME.exec(fileName)?.[1];
}

/** The inverse; undefined for what is no upload id of this store, of which there can be no file. */
export function fileNameOfUpload(uploadId: string): string | undefined {
  const name = RESERVED + uploadId;
  return UNFINISHED_NAME.test(name) ? name : undefined;
}
