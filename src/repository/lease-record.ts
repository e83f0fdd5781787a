import { z } from 'zod';
import { PgarkError } from '../common/errors.ts';
import { LAYOUT } from './manifest.ts';

/**
 * A store may tell its time in whole seconds (the HTTP Date header). A lease, and a hold of a reader, therefore counts as alive for this much
 * longer than it says; its holder gives up at the exact end.
 */
export const STORE_CLOCK_STEP_MS = 1_000;

/** Who holds a lease, for the person who is told to wait. */
export interface LeaseHolder {
  readonly host: string;
  readonly pid: number;
  readonly runId: string;
  /** As it was called: `pgark backup`, `pgark prune`. */
  readonly command: string;
}

/** A lease as it lies in the store. All times are the store's own. */
export const leaseRecordSchema = z.object({
  layout: z.literal(LAYOUT),
  name: z.string().min(1),
  /** Different for every acquisition; who finds another one here has lost the lease. */
  token: z.string().min(1),
  holder: z.object({ host: z.string(), pid: z.number().int(), runId: z.string(), command: z.string() }),
  since: z.iso.datetime(),
  until: z.iso.datetime(),
  /** Makes each renewal's content, and with it its etag, a different one. */
  renewals: z.number().int().nonnegative(),
  /** A lease that was given back. It stays in place: only its successor replaces it, so nobody can delete another's. */
  released: z.boolean(),
});

export type LeaseRecord = z.infer<typeof leaseRecordSchema>;

export function isAlive(record: LeaseRecord, storeNow: Date): boolean {
  return !record.released && storeNow.getTime() <= endOf(record) + STORE_CLOCK_STEP_MS;
}

/** Milliseconds until the lease, unless it is renewed, can be taken over. */
export function untilFreeMs(record: LeaseRecord, storeNow: Date): number {
  return endOf(record) + STORE_CLOCK_STEP_MS + 1 - storeNow.getTime();
}

export function lockedError(record: LeaseRecord): PgarkError {
  const { name, holder, since, until } = record;
  return new PgarkError(
    'locked',
    `${name} is held by ${holder.host} (pid ${holder.pid}) since ${since} for \`${holder.command}\`, until ${until}`,
    {
      hint: `wait for run ${holder.runId} to end; if that process is gone, the lease ends by itself at the time named`,
      details: { lease: name, host: holder.host, pid: holder.pid, runId: holder.runId, since, until },
    },
  );
}

function endOf(record: LeaseRecord): number {
  return Date.parse(record.until);
}
