import type { Lsn } from './lsn.ts';
import { type ServerTime, serverTimeOf, serverTimeOfDate } from './server-time.ts';

/** XLogRecord (src/include/access/xlogrecord.h). */
export const RECORD_HEADER_BYTES = 24;
/** What of a record is looked at: the longest is a restore point with its name. */
export const RECORD_HEAD_BYTES_MAX = 128;

/** Resource managers (src/include/access/rmgrlist.h), and what they call the kinds of their records. */
const RM_XLOG = 0;
const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
const XLOG_SWITCH = 0x40;
const XLOG_PARAMETER_CHANGE = 0x60;
const XLOG_RESTORE_POINT = 0x70;
const XLOG_END_OF_RECOVERY = 0x90;
const XLOG_CHECKPOINT_REDO = 0xe0;
const RM_XACT = 1;
const XACT_MASK = 0x70;
const XACT_KINDS: ReadonlyMap<number, 'commit' | 'abort'> = new Map([
  [0x00, 'commit'],
  [0x20, 'abort'],
  [0x30, 'commit'],
  [0x40, 'abort'],
]);

/** What marks main data and what may stand before it (xlogrecord.h, XLR_BLOCK_ID_…). */
const DATA_SHORT = 255;
const DATA_LONG = 254;
const ORIGIN = 253;
const TOPLEVEL_XID = 252;
const NAME_BYTES = 64;
/** CheckPoint (src/include/catalog/pg_control.h): two timelines behind a position, and its time in seconds since 1970. */
const CHECKPOINT_TIMELINES_OFFSET = 8;
const CHECKPOINT_TIME_OFFSET = 64;

/** A record by which a recovery can be aimed, or that it depends on. */
export type Landmark = { readonly lsn: Lsn; readonly end: Lsn } & (
  | {
      readonly kind: 'commit' | 'abort';
      /** By the server's clock, as the record has it. */
      readonly time: ServerTime;
      /** 0 for a prepared transaction, whose own is elsewhere. */
      readonly xid: number;
    }
  | { readonly kind: 'restore-point'; readonly time: ServerTime; readonly name: string }
  | { readonly kind: 'parameters'; readonly parameters: ServerParameters }
  /** The first thing that a server writes on a timeline of its own. */
  | { readonly kind: 'timeline'; readonly timeline: number; readonly time: ServerTime }
  /** Where a recovery may begin, as PostgreSQL 17 and newer mark it. */
  | { readonly kind: 'redo-point' }
);

/** Settings of the primary below which a server does not recover its WAL. */
export interface ServerParameters {
  readonly max_connections: number;
  readonly max_worker_processes: number;
  readonly max_wal_senders: number;
  readonly max_prepared_transactions: number;
  readonly max_locks_per_transaction: number;
}

/** Five numbers of 32 bits in this order, as pg_control and the records of their changes have them. */
export function readServerParameters(view: DataView, offset: number): ServerParameters {
  const number = (index: number): number => view.getInt32(offset + 4 * index, true);
  return {
    max_connections: number(0),
    max_worker_processes: number(1),
    max_wal_senders: number(2),
    max_prepared_transactions: number(3),
    max_locks_per_transaction: number(4),
  };
}

/** Behind it the rest of its segment is empty. */
export function isSegmentSwitch(head: DataView): boolean {
  return head.getUint8(17) === RM_XLOG && (head.getUint8(16) & 0xf0) === XLOG_SWITCH;
}

/** Undefined for a record that is none. `head`: its first bytes, `RECORD_HEAD_BYTES_MAX` at the most. */
export function landmarkOf(head: DataView, { lsn, end }: { lsn: Lsn; end: Lsn }): Landmark | undefined {
  const manager = head.getUint8(17);
  const info = head.getUint8(16) & 0xf0;
  if (manager === RM_XACT) {
    const kind = XACT_KINDS.get(info & XACT_MASK);
    const data = kind && mainData(head, 8);
    if (kind === undefined || data === undefined) return undefined;
    return { lsn, end, kind, time: serverTimeOf(head.getBigInt64(data, true)), xid: head.getUint32(4, true) };
  }
  if (manager !== RM_XLOG) return undefined;
  if (info === XLOG_RESTORE_POINT) {
    const data = mainData(head, 8 + NAME_BYTES);
    if (data === undefined) return undefined;
    const bytes = Buffer.from(head.buffer, head.byteOffset + data + 8, NAME_BYTES);
    const nameBytes = bytes.indexOf(0);
    const name = bytes.toString('utf8', 0, nameBytes < 0 ? NAME_BYTES : nameBytes);
    return { lsn, end, kind: 'restore-point', time: serverTimeOf(head.getBigInt64(data, true)), name };
  }
  if (info === XLOG_PARAMETER_CHANGE) {
    const data = mainData(head, 20);
    return data === undefined
      ? undefined
      : { lsn, end, kind: 'parameters', parameters: readServerParameters(head, data) };
  }
  const begun = timelineBegun(head, info);
  if (begun !== undefined) return { lsn, end, kind: 'timeline', ...begun };
  if (info === XLOG_CHECKPOINT_REDO || info === XLOG_CHECKPOINT_SHUTDOWN) return { lsn, end, kind: 'redo-point' };
  return undefined;
}

/** By a promotion, or by a checkpoint at the end of any other recovery. */
function timelineBegun(head: DataView, info: number): { timeline: number; time: ServerTime } | undefined {
  if (info === XLOG_END_OF_RECOVERY) {
    const data = mainData(head, 12);
    if (data === undefined) return undefined;
    return { timeline: head.getUint32(data + 8, true), time: serverTimeOf(head.getBigInt64(data, true)) };
  }
  const data = info === XLOG_CHECKPOINT_SHUTDOWN ? mainData(head, CHECKPOINT_TIME_OFFSET + 8) : undefined;
  if (data === undefined) return undefined;
  const timeline = head.getUint32(data + CHECKPOINT_TIMELINES_OFFSET, true);
  const before = head.getUint32(data + CHECKPOINT_TIMELINES_OFFSET + 4, true);
  if (timeline === before) return undefined;
  const seconds = Number(head.getBigInt64(data + CHECKPOINT_TIME_OFFSET, true));
  return { timeline, time: serverTimeOfDate(new Date(seconds * 1_000)) };
}

/** Offset of the main data of a record without pages, if so many bytes of it are there. */
function mainData(head: DataView, bytes: number): number | undefined {
  for (let at = RECORD_HEADER_BYTES; at + 2 <= head.byteLength; ) {
    const id = head.getUint8(at);
    if (id === ORIGIN) at += 3;
    else if (id === TOPLEVEL_XID) at += 5;
    else {
      const data = id === DATA_SHORT ? at + 2 : id === DATA_LONG ? at + 5 : head.byteLength;
      return data + bytes <= head.byteLength ? data : undefined;
    }
  }
  return undefined;
}
