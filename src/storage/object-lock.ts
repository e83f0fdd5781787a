import type { ObjectLock } from './object-store.ts';

const DAY_MS = 86_400_000;

/** Until when an object is locked that was stored at this time. */
export function lockEnd(storedAt: Date, { days }: ObjectLock): Date {
  return new Date(storedAt.getTime() + days * DAY_MS);
}
