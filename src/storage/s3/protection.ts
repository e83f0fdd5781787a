import { GetBucketVersioningCommand, GetObjectLockConfigurationCommand } from '@aws-sdk/client-s3';
import { PgarkError } from '../../common/errors.ts';
import { allOf } from '../../common/in-parallel.ts';
import type { BucketProtection } from '../object-store.ts';
import type { S3Calls, S3Request } from './calls.ts';
import { failureOf, isNotFound, isTransient } from './failures.ts';

const DAYS_IN_A_YEAR = 365;

/** Asks what keeps the bucket's objects from being lost. Rights and stores that do not answer leave it unknown. */
export async function askProtection(calls: S3Calls, signal: AbortSignal | undefined): Promise<BucketProtection> {
  const [versioning, lock] = await allOf([askVersioning(calls, signal), askLock(calls, signal)]);
  return { ...lock, versioning };
}

/** Rejects where objects are to be locked and the bucket was not made for it; one that does not say shows it by the first put. */
export function assertLockable(calls: S3Calls, { objectLock }: BucketProtection): void {
  if (objectLock !== 'off') return;
  throw new PgarkError(
    'storage-config-invalid',
    `bucket ${calls.bucket} at ${calls.host} has no Object Lock, and object_lock wants what is stored to be locked`,
    {
      hint: 'make a bucket with Object Lock enabled and move there, or leave object_lock out: pgark changes no bucket',
    },
  );
}

async function askVersioning(calls: S3Calls, signal: AbortSignal | undefined): Promise<BucketProtection['versioning']> {
  const answer = await ask(calls, { action: 's3:GetBucketVersioning', signal }, () =>
    calls.once({ signal }, (client, options) =>
      client.send(new GetBucketVersioningCommand({ Bucket: calls.bucket }), options),
    ),
  );
  if (answer === 'unknown' || answer === 'absent') return undefined;
  return answer.Status === 'Enabled' ? 'on' : 'off';
}

async function askLock(
  calls: S3Calls,
  signal: AbortSignal | undefined,
): Promise<Pick<BucketProtection, 'objectLock' | 'defaultLock'>> {
  const answer = await ask(calls, { action: 's3:GetBucketObjectLockConfiguration', signal }, () =>
    calls.once({ signal }, (client, options) =>
      client.send(new GetObjectLockConfigurationCommand({ Bucket: calls.bucket }), options),
    ),
  );
  if (answer === 'unknown') return { objectLock: undefined };
  const { ObjectLockEnabled, Rule } = (answer === 'absent' ? undefined : answer.ObjectLockConfiguration) ?? {};
  if (ObjectLockEnabled !== 'Enabled') return { objectLock: 'off' };
  const { Mode, Days, Years } = Rule?.DefaultRetention ?? {};
  const days = Days ?? (Years === undefined ? undefined : Years * DAYS_IN_A_YEAR);
  if (Mode === undefined || days === undefined || days === 0) return { objectLock: 'on' };
  return { objectLock: 'on', defaultLock: { mode: Mode === 'COMPLIANCE' ? 'compliance' : 'governance', days } };
}

/** `absent`: the store says that nothing is set. `unknown`: it refuses, or does not know the question. */
async function ask<T>(calls: S3Calls, request: S3Request, once: () => Promise<T>): Promise<T | 'absent' | 'unknown'> {
  try {
    return await calls.retrying(request, once);
  } catch (error) {
    request.signal?.throwIfAborted();
    if (isNotFound(error)) return 'absent';
    if (isTransient(error) || failureOf(error).status === undefined) throw calls.errorOf(error, request);
    return 'unknown';
  }
}
