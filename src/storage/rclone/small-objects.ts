import { createHash } from 'node:crypto';
import { PgarkError } from '../../common/errors.ts';
import type { ObjectInfo, ObjectKey, PutSmallOptions, WriteCondition } from '../object-store.ts';
import { type Entry, infoOf } from './entries.ts';
import type { RemoteTraits } from './features.ts';
import { smallPath } from './names.ts';
import type { Place } from './place.ts';
import { tidily } from './upload.ts';

/**
 * Writes a small object: in one request where the remote shows it only then, else under another name which is changed.
 * rclone takes a name that is in use away before it gives it to another file, so that for an instant such a remote has
 * neither the old object nor the new one.
 *
 * No remote of rclone's has conditional writes: the condition is looked at before, and another process may be quicker.
 */
export async function putSmallObject(
  place: Place,
  key: ObjectKey,
  body: Uint8Array,
  { condition, signal }: PutSmallOptions,
): Promise<ObjectInfo> {
  const { calls } = place;
  const call = { ...(signal && { signal }) };
  const run = calls.describe('write', key);
  const traits = await place.traits(call);
  await assertCondition(place, key, condition, signal);
  if (traits.publication === 'move') {
    const path = smallPath(calls.settings.random);
    try {
      await calls.writeSmall(path, body, run, call);
      if ((await place.move(path, key, body.length, call)) === 'gone') throw replaced(key);
    } catch (error) {
      await tidily(place, (end) => place.remove(path, run, { signal: end }));
      throw error;
    }
  } else {
    await calls.writeSmall(key, body, run, call);
  }
  const entry = await place.file(key, run, { ...call, withHash: true });
  if (entry === undefined || !matches(entry, body, traits)) throw replaced(key);
  return infoOf(key, entry, traits);
}

async function assertCondition(
  place: Place,
  key: ObjectKey,
  condition: WriteCondition | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (condition === undefined) return;
  const found = await place.find(key, { ...(signal && { signal }) });
  const holds = 'ifAbsent' in condition ? found === undefined : found?.info.etag === condition.ifMatch;
  if (holds) return;
  const why = 'ifAbsent' in condition ? 'is there already' : 'was changed or deleted';
  throw new PgarkError('store-condition-failed', `the object ${JSON.stringify(key)} ${why}: nothing was written`);
}

function matches(entry: Entry, body: Uint8Array, { hash }: RemoteTraits): boolean {
  const told = hash === undefined ? undefined : entry.hashes[hash];
  return (
    entry.bytes === body.length &&
    (hash === undefined || told === undefined || told === createHash(hash).update(body).digest('hex'))
  );
}

function replaced(key: ObjectKey): PgarkError {
  return new PgarkError(
    'store-integrity',
    `the object ${JSON.stringify(key)} is not what was just written: another process wrote it too, or the store damages data`,
    { hint: 'see that no other pgark works on the same storage, then run the command again' },
  );
}
