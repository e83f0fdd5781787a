import type { LeaseFact } from '../repository/lease-facts.ts';
import type { RunRecord } from './run-record.ts';

/**
 * A run writes its record before it takes its lease, and its last record after it gave the lease back. For this long a
 * record without a living lease is believed.
 */
const SETTLE_MS = 120_000;
/** Restores, verifications and drills hold no lease; one that says for this long that it is running is dead. */
const LEASELESS_MS_MAX = 24 * 3_600_000;

/**
 * Whether a run whose record says `running` goes on, or died without a word. A backup or a prune that works holds a
 * lease which lives; nobody who was killed renews one.
 */
export function isStillRunning(record: RunRecord, leases: readonly LeaseFact[], storeNow: Date): boolean {
  const own = leases.filter((lease) => lease.runId === record.id);
  if (own.some((lease) => lease.alive)) return true;
  const lastSignMs = Math.max(Date.parse(record.startedAt), ...own.map((lease) => lease.changedAt.getTime()));
  return storeNow.getTime() - lastSignMs <= patienceMs(record);
}

function patienceMs({ kind }: RunRecord): number {
  switch (kind) {
    case 'backup':
    case 'globals':
    case 'copy':
    case 'prune':
    case 'pin':
    case 'unpin':
      return SETTLE_MS;
    case 'restore':
    case 'verify':
    case 'drill':
      return LEASELESS_MS_MAX;
    default:
      return kind satisfies never;
  }
}
