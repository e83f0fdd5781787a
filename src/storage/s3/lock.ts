import type { ObjectLockMode } from '@aws-sdk/client-s3';
import type { Clock } from '../../common/clock.ts';
import { lockEnd } from '../object-lock.ts';
import type { ObjectLock } from '../object-store.ts';

/** As a request that makes an object takes it. */
export interface LockInput {
  readonly ObjectLockMode: ObjectLockMode;
  readonly ObjectLockRetainUntilDate: Date;
}

/** From now on, by the store's clock where it has told one. */
export function lockInput(
  lock: ObjectLock | undefined,
  { clock, storeClock }: { readonly clock: Clock; readonly storeClock: { readonly latest: Date | undefined } },
): LockInput | undefined {
  if (lock === undefined) return undefined;
  const now = storeClock.latest ?? clock.now();
  return {
    ObjectLockMode: lock.mode === 'compliance' ? 'COMPLIANCE' : 'GOVERNANCE',
    ObjectLockRetainUntilDate: lockEnd(now, lock),
  };
}
