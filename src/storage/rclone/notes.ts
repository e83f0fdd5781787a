import { isPgarkError } from '../../common/errors.ts';
import type { CallOptions, UploadInfo } from '../object-store.ts';
import { dataPath, isRcloneKey, isUploadId, NOTES_PATTERN, notePath, UPLOADS_FOLDER } from './names.ts';
import type { Place } from './place.ts';

/**
 * A note is a small file that says which object an upload is to become: `{"pgark":"upload","id":…,"key":…}` between line
 * breaks, so that all of them are read by one run of rclone, and one that is just being written spoils no other. It
 * lies there from before the first byte until the object is confirmed.
 */
export async function writeNote(place: Place, { key, uploadId }: UploadInfo, call: CallOptions): Promise<void> {
  const text = `\n${JSON.stringify({ pgark: 'upload', id: uploadId, key })}\n`;
  await place.calls.writeSmall(notePath(uploadId), Buffer.from(text), place.calls.describe('write', key), call);
}

export function parseNotes(text: string): UploadInfo[] {
  return text.split('\n').flatMap((line) => {
    const note = line.startsWith('{') ? parseJson(line) : undefined;
    if (typeof note !== 'object' || note === null) return [];
    const { pgark, id, key } = note as Record<string, unknown>;
    const isNote = pgark === 'upload' && typeof id === 'string' && typeof key === 'string';
    return isNote && isUploadId(id) && isRcloneKey(key) ? [{ key, uploadId: id }] : [];
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A note that vanishes while all are read makes the run fail; there are not so many that this would go on. */
const READS_MAX = 10;

/** All uploads that are open. */
export async function readNotes(place: Place, call: CallOptions): Promise<UploadInfo[]> {
  const run = { doing: `list the unfinished uploads on ${place.calls.location}`, subject: '' };
  await place.traits(call);
  for (let read = 1; ; read += 1) {
    try {
      return parseNotes(await place.calls.readFolder(UPLOADS_FOLDER, NOTES_PATTERN, run, call));
    } catch (error) {
      if (!isPgarkError(error, 'object-not-found')) throw error;
      if (!(await place.isFolder(UPLOADS_FOLDER, run, call))) return [];
      if (read === READS_MAX) throw error;
    }
  }
}

/** Removes the note of an upload and what was written of it. */
export async function removeUpload(place: Place, { key, uploadId }: UploadInfo, call: CallOptions): Promise<void> {
  const run = place.calls.describe('remove the unfinished upload of', key);
  await place.remove(notePath(uploadId), run, call);
  const { publication } = await place.traits(call);
  if (publication === 'move') await place.remove(dataPath(uploadId), run, call);
}
