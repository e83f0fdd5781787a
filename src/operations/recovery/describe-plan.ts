import { formatLsn } from '../../postgres/wal/lsn.ts';
import { formatServerTime } from '../../postgres/wal/server-time.ts';
import type { FinishedRecovery } from '../../postgres/server/recovering-server.ts';
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

/** The server that was started on a restored directory. */
export function startedJson({
  port,
  redoneAt,
  lastTransaction,
  logFile,
}: FinishedRecovery): Readonly<Record<string, unknown>> {
  return {
    port,
    last_lsn: redoneAt === undefined ? undefined : formatLsn(redoneAt),
    last_transaction: lastTransaction,
    log: logFile,
  };
}
