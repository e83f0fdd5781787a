import type { ByteStream } from '../common/bytes.ts';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { ObjectKey, ObjectStore } from '../storage/object-store.ts';

/** A part of a backup is not in the store. */
export function missingPart(
  key: ObjectKey,
  { id }: Pick<Manifest, 'id'>,
  { location }: Pick<ObjectStore, 'location'>,
): PgarkError {
  return new PgarkError('corrupt', `${key}, a part of backup ${id}, is missing from ${location}`, {
    hint: 'somebody removed it: restore another backup, pgark list shows them',
  });
}

/** What is read of a part of a backup. Errors: those of the stream, but `corrupt` for an object that is not in the store. */
export async function* readPart(
  stream: ByteStream,
  key: ObjectKey,
  manifest: Pick<Manifest, 'id'>,
  store: Pick<ObjectStore, 'location'>,
): ByteStream {
  try {
    yield* stream;
  } catch (error) {
    throw isPgarkError(error, 'object-not-found') ? missingPart(key, manifest, store) : error;
  }
}
