import { LSN_MAX } from '../../postgres/wal/lsn.ts';
import type { ReplayedSpan } from '../../postgres/wal/tablespace-watch.ts';
import { targetAtLsn } from '../recovery/recovery-target.ts';

/** As pg_current_wal_lsn() shows positions. Default: from the beginning, and to the end. Error: `usage`. */
export function replayedSpan(from: string | undefined, to: string | undefined): ReplayedSpan {
  return {
    from: from === undefined ? 0n : targetAtLsn(from).lsn,
    to: to === undefined ? LSN_MAX : targetAtLsn(to).lsn,
  };
}
