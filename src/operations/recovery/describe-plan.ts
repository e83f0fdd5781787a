import { formatLsn } from '../../postgres/wal/lsn.ts';
import { formatServerTime } from '../../postgres/wal/server-time.ts';
import type { RecoveryPlan } from './plan-recovery.ts';

/** Up to where, for people. */
export function describeStop({ stop, timeline }: RecoveryPlan): string {
  const where = stop.inclusive ? `the record at ${formatLsn(stop.lsn)}, that one included` : formatLsn(stop.lsn);
  const when = stop.time === undefined ? '' : ` (${formatServerTime(stop.time)})`;
  return `${where}${when}, on timeline ${timeline}`;
}

export function recoveryJson({ stop, timeline }: RecoveryPlan): Readonly<Record<string, unknown>> {
  return {
    timeline,
    lsn: formatLsn(stop.lsn),
    inclusive: stop.inclusive,
    time: stop.time === undefined ? undefined : formatServerTime(stop.time),
  };
}
