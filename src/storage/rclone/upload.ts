import { createHash } from 'node:crypto';
import type { ByteStream } from '../../common/bytes.ts';
import { messageOf, PgarkError } from '../../common/errors.ts';
import { abortable } from '../abortable.ts';
import type { CallOptions, ObjectKey, PutStreamOptions, StoredObject, UploadInfo } from '../object-store.ts';
import { infoOf } from './entries.ts';
import { chunkSizes } from './environment.ts';
import { assertWritable, type RemoteHash, type RemoteTraits } from './features.ts';
import { dataPath, newUploadId, notePath } from './names.ts';
import { removeUpload, writeNote } from './notes.ts';
import type { Place } from './place.ts';

/** Tidying up after a failure or an abort may take this long. */
const TIDY_MS_MAX = 30_000;

/** What rclone has been given so far. */
interface Sent {
  bytes: number;
  /** rclone ended well: what lies under the name that it wrote is this. */
  written: boolean;
  readonly digest: ReturnType<typeof createHash> | undefined;
}

/**
 * Streams an object. The upload is open from the moment that its note lies beside the objects. Where the remote renames,
 * the bytes go under a name of their own, and the last step is the rename; elsewhere they go under the object's name,
 * where nothing shows until all is there.
 *
 * Before the stream ends, and rclone with it publishes what it got, the note and the name are looked at once more: an
 * upload that others aborted, or a name that others took, ends there.
 */
export async function putStreamObject(
  place: Place,
  key: ObjectKey,
  body: ByteStream,
  options: PutStreamOptions,
): Promise<StoredObject> {
  const { signal, onUploadOpened } = options;
  const call = { ...(signal && { signal }) };
  const traits = await place.traits(call);
  assertWritable(traits, place.calls.location);
  if ((await place.find(key, { ...call, withHash: false })) !== undefined) throw objectExists(key);
  const upload = { key, uploadId: newUploadId(place.calls.settings.random) };
  const target = traits.publication === 'move' ? dataPath(upload.uploadId) : key;
  const sent: Sent = { bytes: 0, written: false, digest: traits.hash && createHash(traits.hash) };
  let moved = false;
  try {
    await writeNote(place, upload, call);
    await onUploadOpened?.(upload);
    await send(place, upload, target, body, sent, options);
    const hash = await confirm(place, target, sent, traits, key, call);
    if (target !== key && (await place.move(target, key, sent.bytes, call)) === 'gone') throw uploadAborted(key);
    moved = target !== key;
    const entry = await place.file(key, place.calls.describe('confirm', key), call);
    if (entry?.bytes !== sent.bytes) throw notConfirmed(key, lengths(entry?.bytes ?? 0, sent.bytes));
    const { etag } = infoOf(key, entry, traits);
    return { key, bytes: sent.bytes, etag, partCount: 1, confirmedBy: hash ?? 'length' };
  } catch (error) {
    if (sent.bytes > 0 || sent.written) await tidily(place, (end) => takeBack(place, key, target, sent, traits, end));
    throw error;
  } finally {
    await tidily(place, (end) => closeUpload(place, upload, moved, end));
  }
}

const lengths = (found: number, sent: number): string => `it has ${found} bytes, and ${sent} were sent`;

async function send(
  place: Place,
  upload: UploadInfo,
  target: string,
  body: ByteStream,
  sent: Sent,
  { signal, bytesEstimateMax, onBytesStored }: PutStreamOptions,
): Promise<void> {
  const { calls } = place;
  const call = { ...(signal && { signal }) };
  const run = calls.describe('write', upload.key);
  const counted = async function* (): ByteStream {
    for await (const block of abortable(body, signal)) {
      // Taken by rclone is what came before: it asks for more.
      if (sent.bytes > 0) onBytesStored?.(sent.bytes);
      sent.bytes += block.length;
      sent.digest?.update(block);
      yield block;
    }
    const [open, taken] = await Promise.all([
      place.file(notePath(upload.uploadId), run, { ...call, withHash: false }),
      place.file(upload.key, run, { ...call, withHash: false }),
    ]);
    if (open === undefined) throw uploadAborted(upload.key);
    if (taken !== undefined) throw objectExists(upload.key);
  };
  try {
    await calls.write(target, counted(), chunkSizes(bytesEstimateMax, calls.env), signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw calls.error(error, run);
  }
  sent.written = true;
  onBytesStored?.(sent.bytes);
}

/** The exit gate: rclone's success is not the remote's. Gives the hash that was compared, if the remote told one. */
async function confirm(
  place: Place,
  target: string,
  { bytes, digest }: Sent,
  { hash }: RemoteTraits,
  key: ObjectKey,
  call: CallOptions,
): Promise<RemoteHash | undefined> {
  const entry = await place.file(target, place.calls.describe('confirm', key), { ...call, withHash: true });
  if (entry === undefined) {
    throw target === key ? notConfirmed(key, 'it is not there after rclone wrote it') : uploadAborted(key);
  }
  if (entry.bytes !== bytes) throw notConfirmed(key, lengths(entry.bytes, bytes));
  const told = hash === undefined ? undefined : entry.hashes[hash];
  if (told === undefined) return undefined;
  if (told !== digest?.copy().digest('hex')) throw notConfirmed(key, `its ${hash} is not that of what was sent`);
  return hash;
}

/**
 * After a failure, removes what appeared under the object's own name, which was free before, if it is ours: rclone says
 * that it wrote it there, or it is what was sent, and is not still under its first name. Anything else is another's, who
 * was quicker.
 */
async function takeBack(
  place: Place,
  key: ObjectKey,
  target: string,
  sent: Sent,
  { hash }: RemoteTraits,
  signal: AbortSignal,
): Promise<void> {
  const run = place.calls.describe('remove', key);
  const entry = await place.file(key, run, { signal, withHash: true });
  if (entry === undefined) return;
  const told = hash === undefined ? undefined : entry.hashes[hash];
  const isEqual = entry.bytes === sent.bytes && (told === undefined || told === sent.digest?.copy().digest('hex'));
  const isOurs =
    target === key
      ? sent.written || isEqual
      : sent.written && isEqual && (await place.file(target, run, { signal, withHash: false })) === undefined;
  if (isOurs) await place.remove(key, run, { signal });
}

async function closeUpload(place: Place, upload: UploadInfo, moved: boolean, signal: AbortSignal): Promise<void> {
  if (!moved) return removeUpload(place, upload, { signal });
  const run = place.calls.describe('remove the note of', upload.key);
  return place.remove(notePath(upload.uploadId), run, { signal });
}

/** Runs what must be tried in any case. It hides no other error: what is left is found by `listUploads`. */
export async function tidily(place: Place, action: (signal: AbortSignal) => Promise<void>): Promise<void> {
  try {
    await action(AbortSignal.timeout(TIDY_MS_MAX));
  } catch (error) {
    const { logger } = place.calls.settings;
    logger.warning('store.not-tidied', `could not tidy up on ${place.calls.location}: ${messageOf(error)}`);
  }
}

function objectExists(key: ObjectKey): PgarkError {
  return new PgarkError('object-exists', `there is an object ${JSON.stringify(key)} already: nothing was written`);
}

function uploadAborted(key: ObjectKey): PgarkError {
  return new PgarkError(
    'store-failed',
    `cannot write the object ${JSON.stringify(key)}: its upload was aborted by another process`,
    { hint: 'nothing was stored; run the command again, and not while another run prunes by force' },
  );
}

function notConfirmed(key: ObjectKey, why: string): PgarkError {
  return new PgarkError('store-integrity', `cannot confirm the object ${JSON.stringify(key)}: ${why}`);
}
