import { PutObjectRetentionCommand } from '@aws-sdk/client-s3';
import type { ObjectLock } from '../object-store.ts';
import { removeOwnObject } from './abandon.ts';
import type { S3Calls } from './calls.ts';
import { lockInput } from './lock.ts';
import type { ObjectHead } from './small-objects.ts';

/**
 * Sees to it that an object that was put with a lock has one: stores exist that forget it when an upload is completed (Ceph).
 * One that cannot be locked is removed again, for it would count as safe.
 */
export async function ensureLock(
  calls: S3Calls,
  object: { readonly key: string; readonly writeId: string; readonly head: ObjectHead },
  lock: ObjectLock | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const input = lockInput(lock, calls);
  const { key, writeId, head } = object;
  if (input === undefined || head.lockedUntil !== undefined) return;
  const { ObjectLockMode: Mode, ObjectLockRetainUntilDate: RetainUntilDate } = input;
  try {
    await calls.run({ action: 's3:PutObjectRetention', key, signal }, (client, options) =>
      client.send(
        new PutObjectRetentionCommand({ Bucket: calls.bucket, Key: key, Retention: { Mode, RetainUntilDate } }),
        options,
      ),
    );
  } catch (error) {
    await removeOwnObject(calls, key, writeId);
    throw error;
  }
}
