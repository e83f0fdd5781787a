import { PgarkError } from '../../common/errors.ts';
import { formatLsn, type Lsn, parseLsn } from '../../postgres/wal/lsn.ts';
import { formatServerTime, type ServerTime, serverTimeOfDate } from '../../postgres/wal/server-time.ts';

/** Up to where a server is to be brought back. */
export type RecoveryTarget =
  /** All that is archived. */
  | { readonly kind: 'end' }
  /** The moment at which a base backup was complete. */
  | { readonly kind: 'backup-end' }
  /** All that was committed at that moment, by the server's clock. */
  | { readonly kind: 'time'; readonly time: ServerTime }
  /** All records that begin before the position. */
  | { readonly kind: 'lsn'; readonly lsn: Lsn }
  /** Up to the end of a transaction, that one included. */
  | { readonly kind: 'xid'; readonly xid: number }
  /** Up to what pg_create_restore_point() wrote; the newest of that name. */
  | { readonly kind: 'restore-point'; readonly name: string };

/** In the middle of a sentence. */
export function describeTarget(target: RecoveryTarget): string {
  switch (target.kind) {
    case 'end':
      return 'the end of what is archived';
    case 'backup-end':
      return 'the end of the backup';
    case 'time':
      return formatServerTime(target.time);
    case 'lsn':
      return formatLsn(target.lsn);
    case 'xid':
      return `the end of transaction ${target.xid}`;
    case 'restore-point':
      return `restore point ${target.name}`;
    default:
      return target satisfies never;
  }
}

/** `microseconds`: what a moment has besides its milliseconds. */
export function targetAt(time: Date, microseconds = 0): RecoveryTarget & { readonly kind: 'time' } {
  return { kind: 'time', time: serverTimeOfDate(time) + BigInt(microseconds) };
}

/** `text`: as pg_current_wal_lsn() shows it. Error: `usage`. */
export function targetAtLsn(text: string): RecoveryTarget & { readonly kind: 'lsn' } {
  try {
    return { kind: 'lsn', lsn: parseLsn(text) };
  } catch (error) {
    throw new PgarkError('usage', `${text} is no position in the write-ahead log`, {
      cause: error,
      hint: 'write it as pg_current_wal_lsn() shows it: 0/3000028',
    });
  }
}
