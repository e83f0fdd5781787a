import { Buffer } from 'node:buffer';
import { PgarkError } from '../../common/errors.ts';
import type { Random } from '../../common/random.ts';
import { assertKey, isKey } from '../keys.ts';
import type { ObjectKey } from '../object-store.ts';

/**
 * What lies where: an object is the file `ROOT/KEY`. Beside the objects:
 *
 *     ROOT/.pgark-uploads/.pgark-upload-ID     the note of an upload that is open (notes.ts)
 *     ROOT/.pgark-uploads/.pgark-data-ID       its bytes, where they are renamed in the end
 *     ROOT/.pgark-uploads/.pgark-small-ID      a small object on its way to its name
 *     ROOT/.pgark-clock-ID                     there for an instant, to read the remote's clock
 *
 * Parts of keys that begin with `.pgark-` are the store's own; no object can have one. These names are short, since remotes
 * that encrypt names keep 143 characters of each part, and many 1,024 bytes of the whole.
 */
const RESERVED = '.pgark-';
export const UPLOADS_FOLDER = `${RESERVED}uploads`;
/** As rclone's filters have it, below the folder of uploads. */
export const NOTES_PATTERN = `/${RESERVED}upload-*`;
const UPLOAD_ID = /^[0-9a-f]{32}$/;

/** Rejects with `object-key-invalid`, for what no store keeps and for the parts that this one reserves. */
export function assertRcloneKey(key: ObjectKey): void {
  assertKey(key);
  if (!isReserved(key)) return;
  throw new PgarkError(
    'object-key-invalid',
    `${JSON.stringify(key)} cannot be the name of an object on an rclone remote: parts that begin with ${RESERVED} are reserved`,
    { hint: 'change the source’s name or the file name template' },
  );
}

/** Whether a file that was found can be an object: a foreign file may have a name that no key has. */
export function isRcloneKey(path: string): boolean {
  return isKey(path) && !isReserved(path);
}

function isReserved(path: string): boolean {
  return path.startsWith(RESERVED) || path.includes(`/${RESERVED}`);
}

function randomId(random: Random): string {
  return Buffer.from(random.bytes(16)).toString('hex');
}

export const newUploadId = randomId;
export const isUploadId = (text: string): boolean => UPLOAD_ID.test(text);
export const notePath = (uploadId: string): string => `${UPLOADS_FOLDER}/${RESERVED}upload-${uploadId}`;
export const dataPath = (uploadId: string): string => `${UPLOADS_FOLDER}/${RESERVED}data-${uploadId}`;
export const smallPath = (random: Random): string => `${UPLOADS_FOLDER}/${RESERVED}small-${randomId(random)}`;
export const clockPath = (random: Random): string => `${RESERVED}clock-${randomId(random)}`;
